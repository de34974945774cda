"""Edits as checkpoints: loaded by transformers alone they are the edited model; what no configuration says is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from indexscope.analysis.edits.apply import apply_edit
from indexscope.analysis.edits.edit import Edit
from tests.analysis.capture.tiny_families import FAMILIES, tokens
from tests.flows.conftest import run_command

SIX = ("deepseek_v32", "glm_moe_dsa", "axk2", "dots3_note", "hy_v4", "mistral_large4")


def study_of(folder: Path, family: str, edit: dict[str, Any], **changes: Any) -> Path:
    FAMILIES[family](**changes).save_pretrained(folder / "model")
    (folder / "model" / "tokenizer.json").write_text("{}")
    file = folder / "study.yaml"
    candidates = [{"name": "first", "edit": edit}]
    file.write_text(yaml.safe_dump({"name": "s", "baseline": "model", "candidates": candidates}))
    return file


@pytest.mark.parametrize("family", SIX)
def test_the_written_checkpoint_is_the_edited_model_to_the_bit(family: str, tmp_path: Path) -> None:
    shares = family in ("glm_moe_dsa", "hy_v4", "mistral_large4")
    layers = FAMILIES[family]().config.get_text_config().num_hidden_layers
    changes = {"indexer_types": ["full"] * layers} if shares else {}
    kept = [layer for layer in range(layers) if family != "dots3_note" or layer in (0, 3)]
    edit: dict[str, Any] = {"topk": 5}
    if shares:
        edit["share"] = "FS" + "F" * (layers - 2)
        kept.remove(1)
    edit["indexer_heads"] = {layer: [1, 6] for layer in kept}
    file = study_of(tmp_path, family, edit, **changes)
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"))
    assert run.code == 0, run.err
    assert run.out[-1] == str(tmp_path / "made")
    assert (tmp_path / "made" / "tokenizer.json").exists()
    kind = AutoModelForCausalLM if family != "mistral_large4" else type(FAMILIES[family]())
    found = kind.from_pretrained(tmp_path / "made").eval()
    wanted = FAMILIES[family](**changes)
    apply_edit(wanted, Edit(**edit))
    ids = tokens()
    with torch.inference_mode():
        for model in (found, wanted):
            model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
        assert torch.equal(found(input_ids=ids).logits, wanted(input_ids=ids).logits)


REFUSED = [
    ("deepseek_v32", {"share": "FSF"}, "edit.share: config.json of deepseek_v32 has no layers that share"),
    ("deepseek_v32", {"topk": {0: 4}}, "edit.topk: config.json of deepseek_v32 has one number of keys"),
    ("deepseek_v32", {"indexer_heads": {0: [1]}}, "edit.indexer_heads: config.json of deepseek_v32 has one number"),
    ("axk2", {"precision": "fp8"}, "edit.precision: no configuration"),
    ("axk2", {"selector": "oracle"}, "edit.selector: no configuration"),
    ("axk2", {"indexer_heads": {0: [11]}}, "edit.indexer_heads.0: there is no indexer head 11"),
]


@pytest.mark.parametrize(("family", "edit", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_what_no_configuration_says_is_refused_and_nothing_is_written(
    family: str, edit: dict[str, Any], words: str, tmp_path: Path
) -> None:
    file = study_of(tmp_path, family, edit)
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"))
    assert run.code == 2 and len(run.err) == 1 and words in run.err[0], run.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "study.yaml"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    file = study_of(tmp_path, "deepseek_v32", {"topk": 4})
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine").write_text("x")
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"))
    assert run.code == 2 and "exists already" in run.err[0]
    assert (tmp_path / "made" / "mine").read_text() == "x"


def test_the_edit_that_is_meant_is_named(tmp_path: Path) -> None:
    file = study_of(tmp_path, "deepseek_v32", {"topk": 4})
    raw = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump(raw | {"candidates": [*raw["candidates"], {"name": "other", "edit": {"topk": 3}}]}))
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"))
    assert run.code == 2 and "has 2 edits; choose one with --model: first, other" in run.err[0]
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"), "--model", "third")
    assert run.code == 2 and "choose one of first, other" in run.err[0]
    run = run_command("apply", str(file), "--out", str(tmp_path / "made"), "--model", "other")
    assert run.code == 0
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "made").config.index_topk == 3
    file.write_text(yaml.safe_dump(raw | {"candidates": []}))
    run = run_command("apply", str(file), "--out", str(tmp_path / "again"))
    assert run.code == 2 and "has no candidate that is an edit" in run.err[0]
