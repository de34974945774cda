"""Fitted indexers as models of a study: laid over the checkpoint that they were fitted to, and over no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from indexscope.analysis.fitting.fitted import weights_of
from indexscope.analysis.fitting.places import places_of, shape_at
from indexscope.analysis.fitting.scorer import LightningScorer
from indexscope.analysis.fitting.tables import CURVES, HELD_OUT
from indexscope.flows.study.load import load_study
from indexscope.flows.study.plan import make_plan
from indexscope.storage.inputs.checkpoints import fingerprint
from indexscope.storage.inputs.fitted import CURVES_FILE, HELD_OUT_FILE, FittedParts, save_fitted
from indexscope.storage.inputs.model_loading import load_model
from indexscope.storage.store.parquet import encode
from tests.analysis.fitting.test_panel import planted
from tests.flows.conftest import run_command
from tests.flows.test_described import LEARNED, described_tables


@pytest.fixture
def dense(folder: Path) -> Path:
    """The study's folder with a dense model, and an indexer of random weights for it."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "models" / "dense")
    model = load_model(folder / "models" / "dense", "float32", "cpu")
    places = places_of(model)
    scorers = {layer: LightningScorer(shape_at(places.widths[layer], 2, 8)) for layer in places.first}
    layers = {
        layer: {
            "hidden": one.shape.hidden,
            "query": one.shape.query,
            "source": one.shape.source,
            "rotary": one.shape.rotary,
        }
        for layer, one in scorers.items()
    }
    told = {"format": 1, "heads": 2, "dim": 8, "topk": (6, 9), "layers": layers, "family": "llama",
            "model": fingerprint(folder / "models" / "dense")}  # fmt: skip
    save_fitted(folder / "h2-d8", FittedParts.model_validate(told), weights_of(scorers), "a card")
    for name, table, rows in (
        (CURVES_FILE, CURVES, planted()["fit_curves"]),
        (HELD_OUT_FILE, HELD_OUT, planted()["fit_held_out"]),
    ):
        (folder / name).write_bytes(encode(rows, table))
    return folder


def written(folder: Path, **settings: Any) -> Path:
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))
    return file


FITTED = {"path": "models/dense", "indexer": "h2-d8", "topk": 6}


def test_a_study_compares_a_dense_model_with_itself_under_a_fitted_indexer(dense: Path) -> None:
    best = {"name": "best", "edit": {"selector": "oracle", "topk": 6}}
    coarse = FITTED | {"name": "coarse", "edit": {"precision": "fp4", "indexer_heads": {0: [1]}, "share": "FS"}}
    file = written(dense, baseline="models/dense", candidates=[FITTED, best, coarse])
    run = run_command("study", str(file))
    assert run.code == 0, run.err
    plan = make_plan(load_study(file))
    assert [model.name for model in plan.models] == ["dense", "h2-d8", "best", "coarse"]
    found: dict[str, pl.DataFrame] = {}
    for node in plan.graph:
        if node.model is not None and node.step.name in ("extract", "profile"):
            for unit in plan.store.units(node.key):
                for name, table in plan.store.read_unit(node.key, unit).items():
                    before = found.get(f"{node.model.name}.{name}")
                    found[f"{node.model.name}.{name}"] = table if before is None else pl.concat([before, table])
    recall = {name: found[f"{name}.indexer"]["selection_recall"].sum() for name in ("h2-d8", "best")}
    limits = found["h2-d8.indexer"].select("random_recall", "oracle_recall").sum().row(0)
    assert recall["h2-d8"] < limits[1]
    assert recall["best"] == pytest.approx(found["best.indexer"]["oracle_recall"].sum(), rel=1e-6)
    assert found["h2-d8.layers"]["index_topk"].to_list() == [6, 6]
    assert found["h2-d8.facts"]["indexer_parameters"][0] == 2 * (2 * 8 * 32 + 8 * 32 + 2 * 8 + 2 * 32)
    assert found["coarse.layers"]["indexer_heads"].to_list() == [1, None]
    assert found["coarse.facts"]["indexer_parameters"][0] == 8 * 32 + 8 * 32 + 2 * 8 + 32
    assert described_tables(dense / ".indexscope") > LEARNED
    assert found["h2-d8.fit_curves"].equals(planted()["fit_curves"])
    assert found["coarse.fit_held_out"].equals(planted()["fit_held_out"])
    assert "best.fit_curves" not in found and "dense.fit_curves" not in found
    page = next((dense / "reports").rglob("report.html")).read_text()
    assert "Its indexer was fitted in 40 steps" in page and "How fitted indexers learned" in page
    report = json.loads(next((dense / "reports").rglob("report.json")).read_text())
    costs = {row["model"]: row["value"] for row in report["metrics"] if row["name"] == "relative_cost"}
    assert costs["dense"] == 1.0 and costs["best"] < costs["h2-d8"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"path": "models/base", "indexer": "h2-d8", "topk": 6}, "was fitted to another checkpoint than base"),
    ({"path": "models/dense", "indexer": "h2-d8"}, "was tuned for several numbers of keys (6, 9)"),
    ({"path": "models/dense", "indexer": "h3-d8", "topk": 6}, "indexer: there is no"),
    ({"path": "models/dense", "indexer": "models/base", "topk": 6}, "holds no fitted indexer"),
    ({"indexer": "h2-d8", "topk": 6}, "add the checkpoint that it was fitted to as path"),
    ({"path": "models/dense", "topk": 6}, "has topk, which is a fitted indexer's"),
]


@pytest.mark.parametrize(("candidate", "words"), BAD, ids=[words for _, words in BAD])
def test_what_does_not_fit_is_one_line_before_any_work(dense: Path, candidate: dict[str, Any], words: str) -> None:
    run = run_command("study", str(written(dense, baseline="models/dense", candidates=[{"name": "x"} | candidate])))
    assert run.code == 2 and len(run.err) == 1 and words in run.err[0], run.err


def test_where_an_indexer_lies_does_not_count_and_its_weights_do(dense: Path) -> None:
    def digest(candidate: dict[str, Any]) -> str:
        plan = make_plan(load_study(written(dense, baseline="models/dense", candidates=[{"name": "x"} | candidate])))
        return next(n.key.digest for n in plan.graph if n.model and n.model.name == "x" and n.step.name == "extract")

    first = digest(FITTED)
    assert digest(FITTED | {"topk": 7}) != first
    (dense / "h2-d8").rename(dense / "moved")
    assert digest(FITTED | {"indexer": "moved"}) == first
    (dense / "moved" / "MODEL_CARD.md").write_text("another card")
    assert digest(FITTED | {"indexer": "moved"}) == first
    weights = dense / "moved" / "indexer.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert digest(FITTED | {"indexer": "moved"}) != first
