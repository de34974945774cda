"""A finished study opens in a notebook with the numbers that the notebook itself finds of the same samples."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from indexscope.storage.inputs.checkpoints import load_model
from indexscope.storage.store.store import Store
from indexscope.storage.studies.records import read_records
from interpretability import IndexerInterpreter, compare_indexer_analyses, load
from interpretability.interpreter import CLOSEUP, EXTRACT
from tests.flows.conftest import run_command
from tests.tiny import save_model

STUDY = """\
name: Tiny study
baseline: models/base
candidates: [models/light]
dataset: {source: data.jsonl, column: input_ids, max_length: 48, samples: null}
extract: {chunk: 16, profile_lengths: [16], profile_repeats: 1}
closeup: {samples: null, queries: 8, rerun_samples: 0}
shard_size: 3
"""
CLOSE = {"rel_tol": 1e-6, "abs_tol": 1e-9}


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    generator = random.Random(0)
    return [[generator.randrange(300) for _ in range(generator.choice([40, 48]))] for _ in range(8)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> Path:
    folder = tmp_path_factory.mktemp("study")
    save_model(folder / "models" / "base", heads=2, seed=0)
    save_model(folder / "models" / "light", heads=1, seed=0)
    (folder / "data.jsonl").write_text("".join(json.dumps({"input_ids": row}) + "\n" for row in rows))
    (folder / "study.yaml").write_text(STUDY)
    done = run_command("study", folder / "study.yaml")
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Path:
    """A finished study of one's own, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "own"))


def test_a_store_and_its_report_open_to_the_same_study(finished: Path) -> None:
    report = finished / "reports" / "tiny-study"
    opened = [load(finished / ".indexscope"), load(report), load(report / "report.json"), load(str(report))]
    for study in opened:
        assert study.models == ("base", "light") and study.name == "Tiny study"
        assert (
            study.table("light", "samples")["tokens"].to_list()
            == opened[0].table("light", "samples")["tokens"].to_list()
        )
    assert repr(opened[0]).startswith("LoadedStudy 'Tiny study' in ") and repr(opened[0]).endswith(": base, light")
    moved = load(report, store=finished / ".indexscope", study="Tiny study")
    assert moved.tables("base") == opened[0].tables("base")


def test_stored_analyses_are_what_the_notebook_finds_of_the_same_samples(finished: Path, rows: list[list[int]]) -> None:
    study = load(finished / ".indexscope")
    stored = study.analysis("base")
    model = load_model(finished / "models" / "base")
    # A study shuffles its documents; their names tell which line each is.
    lines = [int(name.removeprefix("data.jsonl:")) for name in study.table("base", "samples")["name"]]
    batches = [torch.tensor([rows[line - 1]]) for line in lines]
    interpreter = IndexerInterpreter(
        extract=EXTRACT.model_copy(update={"chunk": 16}), closeup=CLOSEUP.model_copy(update={"queries": 8})
    )
    found = interpreter.study_relevance_distribution(model, batches)
    for name in ("metrics", "per_sample", "quantiles", "histogram", "moments", "by_bucket"):
        assert_frame_equal(stored.distribution[name], found[name], **CLOSE)
    assert stored.distribution.zero_share == pytest.approx(found.zero_share)
    placed = interpreter.analyze_positional_bias(model, batches)
    for name in ("metrics", "per_sample", "lift"):
        assert_frame_equal(stored.positional[name], placed[name], **CLOSE)
    counted = pl.col("metric").is_in(found.costs["metric"].to_list())
    assert_frame_equal(stored.costs.filter(counted), found.costs, check_row_order=False, **CLOSE)
    selection = interpreter.analyze_token_selection(model, batches)
    order = ["metric", "layer", "sample"]
    assert_frame_equal(stored.selection.per_sample.sort(order), selection.per_sample.sort(order), **CLOSE)
    for name in ("metrics", "lift", "curve", "budgets", "by_bucket"):
        assert_frame_equal(stored.selection[name], selection[name], check_row_order=False, **CLOSE)
    assert stored.selection.selection_recall == pytest.approx(selection.selection_recall)
    assert stored.heads.focus["words"].len() == 2 * 2


def test_stored_analyses_compare_and_draw_like_fresh_ones(finished: Path) -> None:
    study = load(finished / "reports" / "tiny-study")
    base, light = (study.analysis(model) for model in study.models)
    report = json.loads((finished / "reports" / "tiny-study" / "report.json").read_text())
    expected = {
        (row["metric"], row["layer"]): (row["difference"], row["ci_low"], row["verdict"])
        for row in report["comparisons"]
    }
    for found in (compare_indexer_analyses(base, light), compare_indexer_analyses(base.heads, light.heads)):
        assert found.baseline == "base" and found.candidate == "light" and found.n == 8
        for row in found.metrics.iter_rows(named=True):
            difference, low, verdict = expected[row["metric"], row["layer"]]
            assert row["difference"] == pytest.approx(difference) and row["verdict"] == verdict, row
            assert row["ci_low"] == pytest.approx(low)
    costs = {"model_parameters", "indexer_flops", "model_latency_ms"}
    assert {"selection_recall", "head_effective", "zero_share", "positional_bias", *costs} <= set(
        compare_indexer_analyses(base, light).metrics["metric"]
    )
    interpreter = IndexerInterpreter()
    for analysis in (base, base.positional, compare_indexer_analyses(base, light)):
        assert isinstance(interpreter.visualize_indexer_analysis(analysis), Figure)
    text = repr(base)
    assert (
        text.startswith("StoredAnalysis of base, n = 8 samples\n") and f"{base.selection.in_effect:.4f} share" in text
    )
    fresh = interpreter.analyze_positional_bias(load_model(finished / "models" / "base"), torch.ones(8, 40).long())
    with pytest.raises(ValueError, match="one is of a stored study, whose tokens are not kept"):
        compare_indexer_analyses(base.positional, fresh)


def test_every_table_of_the_store_is_a_frame(finished: Path) -> None:
    study = load(finished / ".indexscope")
    names = study.tables("light")
    assert {
        "attention",
        "indexer",
        "samples",
        "closeup.indexer_heads",
        "distribution.metrics",
        "indexer_heads.focus",
    } <= set(names)
    metrics = study.table("light", "distribution.metrics")
    recall = metrics.filter((pl.col("metric") == "selection_recall") & pl.col("layer").is_null())["value"][0]
    assert recall == study.analysis("light").selection.selection_recall
    indexer = study.table("light", "indexer").filter(pl.col("queries_in_effect") > 0)
    weighted = (indexer["selection_recall"] * indexer["queries_in_effect"]).sum() / indexer["queries_in_effect"].sum()
    assert recall == pytest.approx(weighted, rel=1e-6)
    with pytest.raises(ValueError, match=r"^table 'none': is not one of light; choose one of attention, "):
        study.table("light", "none")
    for ask in (study.analysis, study.tables):
        with pytest.raises(
            ValueError, match=r"^model 'other': is not in the study Tiny study; choose one of base, light$"
        ):
            ask("other")


def test_what_is_no_study_is_one_clear_value_error(own: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "note.txt").write_text("nothing")
    report = own / "reports" / "tiny-study"
    twin = tmp_path / "alone"
    shutil.copytree(report, twin)
    for path, words in (
        (tmp_path / "none", "is no report and no store; give the folder of a report, or a store"),
        (empty, "holds no report.json and no finished study; give the folder of a report"),
        (own / "study.yaml", "is a study file; give the folder of a report"),
        (empty / "report.json", "there is no such file"),
        (twin, "does not say where its store is, and no .indexscope lies in a folder above it; give it as store="),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
            load(path)
        assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="was not made from"):
        load(twin, store=empty)
    assert load(twin, store=own / ".indexscope").models == ("base", "light")
    with pytest.raises(ValueError, match=r"is the report of Tiny study, not of another; leave study= out"):
        load(report, study="another")
    with pytest.raises(ValueError, match="so that store= has no meaning"):
        load(own / ".indexscope", store=own / ".indexscope")


def test_a_store_of_several_studies_asks_which_and_a_damaged_one_says_what_is_gone(own: Path) -> None:
    store = Store(own / ".indexscope")
    (record,) = read_records(store)
    twin = replace(record, study="twin", identity="twin-1")
    store.folder.write(twin.file, twin.encode())
    with pytest.raises(ValueError, match=r"holds several studies; choose one with study=: Tiny study, twin"):
        load(store.url)
    study = load(store.url, study="twin")
    assert study.name == "twin" and load(own / "reports" / "tiny-study").name == "Tiny study"
    with pytest.raises(ValueError, match="knows no study 'third'"):
        load(store.url, study="third")
    for file in (own / ".indexscope" / "analyses" / "indexer_heads").rglob("*.parquet"):
        file.write_bytes(b"torn")
    with pytest.raises(ValueError, match="run the study again"):
        study.analysis("base")
