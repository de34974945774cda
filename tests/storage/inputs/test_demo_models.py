"""Bodies of the built-in models: which one may be trained on, and that each stage's is kept by what made it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from indexscope.analysis.demo.recipe import DemoRecipe, demo_config
from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.checkpoints import BUILTIN_FOLDER
from indexscope.storage.inputs.demo_models import (
    COPYING,
    body_of,
    check_body,
    copying_key,
    load_body,
    save_body,
)
from indexscope.storage.inputs.stdlib import Document
from tests.tiny import save_model

RECIPE = DemoRecipe()
CONFIG = demo_config(RECIPE, RECIPE.variants[0]).to_dict()


def test_the_shipped_models_have_the_recipes_body_and_the_same_one() -> None:
    bodies = []
    for variant in RECIPE.variants:
        check_body(BUILTIN_FOLDER / variant.name, CONFIG)
        bodies.append(body_of(BUILTIN_FOLDER / variant.name))
    first, second = bodies
    assert set(first) == set(second) and not any(".indexer." in name for name in first)
    assert all(one.dtype == torch.float32 and torch.equal(one, second[name]) for name, one in first.items())


def test_a_body_of_another_shape_is_refused_in_a_line(tmp_path: Path) -> None:
    save_model(tmp_path, heads=1, seed=0)
    with pytest.raises(IndexscopeError, match=r"where the recipe has .*; give a model that train-demo made"):
        check_body(tmp_path, CONFIG)


def test_what_the_second_stage_made_is_taken_up_for_the_same_body_text_and_settings_alone(tmp_path: Path) -> None:
    body, text = {"weight": torch.ones(2, 2)}, [Document("a", "text")]
    key = copying_key({"copy_steps": 1}, text, body)
    others = {
        copying_key({"copy_steps": 2}, text, body),
        copying_key({"copy_steps": 1}, [Document("a", "other")], body),
        copying_key({"copy_steps": 1}, text, {"weight": torch.zeros(2, 2)}),
    }
    assert key not in others and len(others) == 3
    save_body(tmp_path, key, body, COPYING)
    found = load_body(tmp_path, key, COPYING)
    assert found is not None and torch.equal(found["weight"], body["weight"])
    assert load_body(tmp_path, key) is None
    assert all(load_body(tmp_path, other, COPYING) is None for other in others)
