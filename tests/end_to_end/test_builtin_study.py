"""The main job on the built-in models and data, with few samples, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.end_to_end.conftest import Command

SMALL = [
    part
    for setting in (
        "dataset.samples=6",
        "dataset.max_length=256",
        "shard_size=3",
        "extract.profile_repeats=1",
        "extract.profile_lengths=[32,64]",
        "closeup.samples=2",
        "closeup.queries=8",
        "closeup.rerun_samples=1",
    )
    for part in ("--set", setting)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def report(folder: Path, indexscope: Command) -> dict:
    done = indexscope("study", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Error flushing" not in done.stderr
    return json.loads((folder / done.stdout.splitlines()[-1] / "report.json").read_text())


def value(report: dict, model: str, metric: str) -> float:
    (row,) = [m for m in report["metrics"] if (m["model"], m["name"], m["layer"]) == (model, metric, None)]
    return row["value"]


def test_the_report_says_what_the_parquet_files_say(report: dict, folder: Path) -> None:
    tables = [path for path in (folder / ".indexscope" / "features").iterdir()]
    assert len(tables) == 2
    found = set()
    for table in tables:
        recall = (
            pl.scan_parquet(table / "indexer" / "*.parquet")
            .select(
                (pl.col("selection_recall") * pl.col("queries_in_effect")).sum() / pl.col("queries_in_effect").sum()
            )
            .collect()
            .item()
        )
        found.add(round(recall, 5))
    assert found == {round(value(report, model, "selection_recall"), 5) for model in ("baseline", "light")}


def test_both_indexers_lie_between_chance_and_the_oracle_and_the_light_one_costs_less(report: dict) -> None:
    for model in ("baseline", "light"):
        assert value(report, model, "random_recall") < 0.5 < value(report, model, "selection_recall")
        assert value(report, model, "selection_recall") < value(report, model, "oracle_recall") <= 1
        assert value(report, model, "dense_nll") < 3, "the built-in model has learnt something"
    assert value(report, "light", "selection_recall") < value(report, "baseline", "selection_recall")
    assert value(report, "light", "dense_nll") == pytest.approx(value(report, "baseline", "dense_nll"), abs=1e-6), (
        "both share one body"
    )
    heads = {model["name"]: model["indexer"] for model in report["models"]}
    assert heads == {"baseline": {"heads": 4, "dim": 64, "topk": 64}, "light": {"heads": 2, "dim": 32, "topk": 64}}
    cost = {model: value(report, model, "indexer_parameters") for model in heads}
    per_layer = {"baseline": 96 * 256 + 192 * 64 + 2 * 64 + 192 * 4, "light": 96 * 64 + 192 * 32 + 2 * 32 + 192 * 2}
    assert cost == {model: 6 * parameters for model, parameters in per_layer.items()}
    assert all(row["passed"] and row["max_logit_change"] < 1e-3 for row in report["causality"])


def test_diff_and_ls_speak_of_the_finished_study(report: dict, folder: Path, indexscope: Command) -> None:
    path = next((folder / "reports").iterdir())
    same = indexscope("diff", path, path, "--json", "--fail-on", "recall < -0.01", cwd=folder)
    assert same.returncode == 0, same.stderr
    listed = indexscope("ls", cwd=folder)
    assert "features" in listed.stdout
    assert "baseline" in listed.stdout
