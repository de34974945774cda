"""Edits as models of a study: what a study file may say, what is refused before any work, and what comes of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml

from indexscope.analysis.capture.indexer import indexers
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import Plan, make_plan
from indexscope.storage.inputs.checkpoints import CheckpointFolder
from indexscope.tasks.common.registry import STEPS
from tests.flows.conftest import run_command
from tests.tiny import save_model


def written(folder: Path, **settings: Any) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))
    return file


def planned(folder: Path, *candidates: object, **settings: Any) -> Plan:
    return make_plan(load_study(written(folder, candidates=list(candidates), **settings)))


def digests(plan: Plan, name: str) -> dict[str, str]:
    return {n.step.name: n.key.digest for n in plan.graph if n.model is not None and n.model.name == name}


def test_an_edit_is_named_by_what_it_changes_and_takes_the_files_of_what_it_edits(folder: Path) -> None:
    plan = planned(folder, {"edit": {"topk": 4, "precision": "fp8"}}, {"edit": {"of": "models/light", "topk": 2}})
    assert [model.name for model in plan.models] == ["base", "k 4, fp8", "k 2"]
    assert [model.info.index_topk for model in plan.models] == [8, 4, 2]
    assert plan.models[2].tokenizer == folder / "models" / "light"


def test_the_plan_tells_what_is_left_without_loading_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plan loads no checkpoint")

    monkeypatch.setattr(CheckpointFolder, "load", refuse)
    whole, edited = planned(folder, {"name": "x", "edit": {"indexer_heads": {0: [0]}, "share": "FS"}}).models
    heads = json.loads((folder / "models" / "base" / "config.json").read_text())["index_n_heads"]
    dropped = (heads - 1) * (16 * 16 + 32) + heads * (16 * 16 + 32) + 32 * 16 + 2 * 16
    assert whole.info.parameters - edited.info.parameters == dropped


def test_an_edit_that_changes_nothing_is_the_model_itself(folder: Path) -> None:
    plan = planned(folder, {"name": "same", "edit": {"selector": "learned"}})
    own, other = digests(plan, "base"), digests(plan, "same")
    assert own and own == other


def test_what_an_edit_says_counts_and_how_it_says_it_does_not(folder: Path) -> None:
    def digest(edit: Mapping[str, object]) -> str:
        return digests(planned(folder, {"name": "x", "edit": edit}), "x")["extract"]

    first = digest({"topk": 4, "indexer_heads": {1: [1, 0], 0: [0]}})
    assert first == digest({"indexer_heads": {"0": [0], 1: [0, 1]}, "topk": {"default": "4"}})
    others = [{"topk": 4}, {"topk": 5}, {"topk": 4, "precision": "fp4"}, {"selector": "oracle", "topk": 4},
              {"selector": {"random": {"seed": 1}}, "topk": 4}, {"selector": "random", "topk": 4}]  # fmt: skip
    assert len({first, *map(digest, others)}) == len(others) + 1


BAD: list[tuple[object, str]] = [
    ({"name": "x", "edit": {"indexer_heads": {0: [7]}}}, "x: edit.indexer_heads.0: there is no indexer head 7"),
    ({"name": "x", "edit": {"share": "SF"}}, "edit.share: has letters other than F and S, or does not begin with F"),
    ({"name": "x", "edit": {"share": "FSF"}}, "x: edit.share: has 3 letters for 2 layers"),
    ({"name": "x", "edit": {"selector": "best"}}, "selector"),
    ({"name": "x", "edit": {"precision": "fp6"}}, "precision"),
    ({"name": "x", "path": "models/light", "edit": {"topk": 3}}, "has both a path and an edit"),
    ({"name": "x", "edit": {"of": "./nowhere", "topk": 3}}, "edit.of: there is no"),
    ({"name": "x", "edit": {"topk": 0}}, "topk"),
    ({"name": "x", "edit": {"selector": "recent", "topk": 3}}, "x: edit.topk: the keys of the selector recent"),
    ({"name": "x", "edit": {"tokp": 3}}, "did you mean"),
]


@pytest.mark.parametrize(("candidate", "words"), BAD, ids=[words for _, words in BAD])
def test_what_cannot_be_edited_is_one_line_before_any_work(folder: Path, candidate: object, words: str) -> None:
    run = run_command("study", str(written(folder, candidates=[candidate])))
    assert run.code == 2
    assert len(run.err) == 1 and words in run.err[0], run.err
    assert not (folder / ".indexscope").exists() or not any((folder / ".indexscope").rglob("*.parquet"))


def test_a_baseline_that_is_an_edit_names_what_it_edits(folder: Path) -> None:
    run = run_command("study", str(written(folder, baseline={"name": "b", "edit": {"topk": 4}})))
    assert run.code == 2 and "edit of nothing" in run.err[0]
    plan = make_plan(load_study(written(folder, baseline={"name": "b", "edit": {"of": "models/base", "topk": 4}})))
    assert plan.models[0].info.index_topk == 4


def test_a_study_compares_edits_with_the_model_that_they_are_of(folder: Path) -> None:
    """Every step, features and costs by layer of one edit, and what a checkpoint built by hand would give."""
    save_model(folder / "models" / "hand", heads=2, seed=0)
    base = CheckpointFolder(str(folder / "models" / "base")).load("float32", "cpu")
    heads = indexers(base)[0].n_heads
    hand = CheckpointFolder(str(folder / "models" / "hand")).load("float32", "cpu")
    weights = dict(base.state_dict())
    for name, small in hand.state_dict().items():
        if small.shape != weights[name].shape:
            rows = len(small) // 2
            weights[name] = torch.cat([weights[name][head * rows : (head + 1) * rows] for head in (0, heads - 1)])
    hand.load_state_dict(weights)
    hand.save_pretrained(folder / "models" / "hand")
    edit = {"indexer_heads": {0: [0, heads - 1], 1: [0, heads - 1]}}
    file = written(
        folder,
        candidates=[
            {"name": "hand", "path": "models/hand"},
            {"name": "edited", "edit": edit},
            {"name": "shared", "edit": {"share": "FS", "topk": 5, "precision": "fp4"}},
            {"name": "oracle", "edit": {"selector": "oracle"}},
        ],
    )
    run = run_command("study", str(file))
    assert run.code == 0, run.err
    plan = make_plan(load_study(file))
    tables: dict[str, dict[str, pl.DataFrame]] = {}
    for node in plan.graph:
        if node.model is not None and node.step.name in ("extract", "profile"):
            for unit in plan.store.units(node.key):
                for name, table in plan.store.read_unit(node.key, unit).items():
                    tables.setdefault(node.model.name, {})[f"{node.step.name}.{name}.{unit}"] = table
    ours, theirs = tables["edited"], tables["hand"]
    for name in (name for name in theirs if name.startswith("extract")):
        assert ours[name].equals(theirs[name]), name
    layers = next(table for name, table in tables["shared"].items() if name.startswith("profile.layers"))
    assert layers["indexer_heads"].to_list() == [heads, None] and layers["index_topk"].to_list() == [5, 5]
    best = pl.concat(t for name, t in tables["oracle"].items() if name.startswith("extract.indexer."))
    assert best["selection_recall"].sum() == pytest.approx(best["oracle_recall"].sum(), rel=1e-5)
    assert {node.step.name for node in plan.graph} >= set(STEPS) - {
        "evidence",
        "evidence_changes",
        "parity",
        "parity_rows",
        "plugins",
        "plugin_features",
        "series",
    }
