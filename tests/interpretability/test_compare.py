"""Two analyses are compared as the pipeline compares two models, and never unless they saw the same samples."""

from __future__ import annotations

import re

import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.comparison.compare import compare
from indexscope.analysis.features import extract_samples
from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings
from indexscope.storage.inputs.checkpoints import load_model, resolve
from interpretability import IndexerInterpreter, compare_indexer_analyses
from tests.interpretability.test_interpreter import as_samples, ids_of


@pytest.fixture(scope="module")
def interpreter() -> IndexerInterpreter:
    return IndexerInterpreter()


@pytest.fixture(scope="module")
def models() -> dict[str, object]:
    return {name: load_model(resolve(f"builtin:{name}")) for name in ("baseline", "light")}


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return ids_of(4, 96, 500)


def test_differences_intervals_and_verdicts_are_the_pipelines(interpreter, models, ids) -> None:
    tables = {name: extract_samples(model, as_samples(ids), ExtractSettings()) for name, model in models.items()}
    expected = compare(
        {name: positional_bias.run(own, PositionalBiasSettings()) for name, own in tables.items()},
        "baseline",
        ComparisonSettings(),
    )
    analyses = [interpreter.analyze_positional_bias(model, [ids]) for model in models.values()]
    found = compare_indexer_analyses(*analyses)
    assert expected.height > 50 and found.n == 4
    assert_frame_equal(found.metrics, expected, rel_tol=1e-9, abs_tol=1e-12)
    looked = {
        name: closeup_samples(model, as_samples(ids), CloseupSettings(rerun_samples=0), ExtractSettings())
        for name, model in models.items()
    }
    expected = compare(
        {name: indexer_heads.run(own, IndexerHeadsSettings()) for name, own in looked.items()},
        "baseline",
        ComparisonSettings(),
    )
    analyses = [interpreter.analyze_indexer_heads(model, ids) for model in models.values()]
    found = compare_indexer_analyses(*analyses)
    assert_frame_equal(found.metrics, expected, rel_tol=1e-9, abs_tol=1e-12)
    # The light model has half the heads of the baseline, so that each is missed more.
    row = found.overall.row(by_predicate=pl.col("metric") == "leave_one_out_loss", named=True)
    assert row["difference"] > 0 and row["verdict"] == "different"


def test_a_model_against_itself_differs_in_nothing(interpreter, models, ids) -> None:
    one = interpreter.study_relevance_distribution(models["light"], ids)
    found = compare_indexer_analyses(one, one)
    assert set(found.metrics["difference"].drop_nulls()) == {0.0}
    # One per cent of nothing is no margin to be equivalent within.
    judged = found.metrics.filter(pl.col("baseline") != 0)
    assert judged.height > 20 and set(judged["verdict"]) == {"equivalent"}


def test_it_prints_a_line_a_metric_and_is_drawn(interpreter, models, ids) -> None:
    one, other = (interpreter.analyze_token_selection(model, ids) for model in models.values())
    found = compare_indexer_analyses(one, other, settings=ComparisonSettings(resamples=200))
    lines = repr(found).splitlines()
    assert lines[0] == "token selection: light against baseline, n = 4 paired samples"
    assert re.split(r" {2,}", lines[1].strip()) == [
        *("metric", "baseline", "value", "difference", "interval", "unit", "verdict")
    ]
    line = next(line for line in lines if line.startswith("  selection_recall "))
    assert f"{one.selection_recall:.4f}" in line and f"{other.selection_recall:.4f}" in line
    assert found.to_frame().height == found.metrics.height and found["kind"] == "token selection"
    figure = interpreter.visualize_indexer_analysis(found)
    assert isinstance(figure, Figure)
    drawn = figure.data.row(by_predicate=pl.col("metric") == "selection_recall", named=True)
    expected = 100 * (other.selection_recall - one.selection_recall) / one.selection_recall
    assert drawn["difference_percent"] == pytest.approx(expected)


def test_other_samples_and_other_kinds_are_refused_in_one_line(interpreter, models, ids) -> None:
    light = models["light"]
    one = interpreter.analyze_positional_bias(light, ids)
    for samples, words in (
        (ids[:3], r"different samples \(4 and 3; 1 differ\)"),
        (ids.flip(0), r"different samples \(4 and 4; 4 differ\)"),
        (ids_of(4, 96, 500, seed=1), r"different samples \(4 and 4; 4 differ\)"),
    ):
        with pytest.raises(ValueError, match=words):
            compare_indexer_analyses(one, interpreter.analyze_positional_bias(light, samples))
    with pytest.raises(ValueError, match=r"is of positional bias and optimized_analysis of relevance distribution; "):
        compare_indexer_analyses(one, interpreter.study_relevance_distribution(light, ids))
    with pytest.raises(TypeError, match="optimized_analysis is dict, not an analysis"):
        compare_indexer_analyses(one, dict(one))
