"""Two analyses are compared as the pipeline compares two models, and never unless they saw the same samples."""

from __future__ import annotations

import re

import polars as pl
import pytest
import torch
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal
from torch import nn

from indexscope.analysis.capture import CapturedModel
from indexscope.analysis.capture.facts import model_facts
from indexscope.analysis.capture.layers import layer_facts
from indexscope.analysis.closeup.run import closeup_samples
from indexscope.analysis.comparison.compare import compare
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency.run import run as efficiency
from indexscope.analysis.features import extract_samples
from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.settings import CloseupSettings, ComparisonSettings, ExtractSettings
from indexscope.storage.inputs.checkpoints import load_model, resolve
from interpretability import IndexerInterpreter, compare_indexer_analyses
from interpretability.compare import IndexerComparison
from tests.analysis.conftest import tiny_dsa
from tests.interpretability.test_interpreter import as_samples, ids_of
from tests.interpretability.test_models import Showing, Tracing


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
    assert_frame_equal(without_costs(found), expected, rel_tol=1e-9, abs_tol=1e-12)
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
    assert_frame_equal(without_costs(found), expected, rel_tol=1e-9, abs_tol=1e-12)
    # The light model has two heads where the baseline has four, so that fewer can count.
    row = found.overall.row(by_predicate=pl.col("metric") == "head_effective", named=True)
    assert row["difference"] < -0.5 and row["ci_high"] < 0
    assert row["n"] < 8 and row["verdict"] == "inconclusive", "of so few samples nothing is said"


def test_a_model_against_itself_differs_in_nothing(interpreter, models, ids) -> None:
    one = interpreter.study_relevance_distribution(models["light"], ids)
    found = compare_indexer_analyses(one, one)
    assert set(found.metrics["difference"].drop_nulls()) == {0.0}
    judged = without_costs(found)
    assert judged.height > 20 and set(judged["verdict"]) == {"equal"}
    assert found.overall.filter(pl.col("metric") == "model_parameters")["verdict"].item() == "equal"
    assert (found.baseline, found.candidate) == ("light 1", "light 2")


def without_costs(found: IndexerComparison) -> pl.DataFrame:
    return found.metrics.filter(~pl.col("metric").is_in(list(COSTS)))


COSTS = (
    *("model_parameters", "indexer_parameters", "break_even_length"),
    *("attention_flops", "dense_attention_flops", "indexer_flops"),
)


def test_parameters_and_operations_of_both_models_are_the_pipelines(interpreter, models, ids) -> None:
    analyses = [interpreter.analyze_positional_bias(model, [ids]) for model in models.values()]
    rows = {row["metric"]: row for row in compare_indexer_analyses(*analyses).overall.to_dicts()}
    for side, (model, analysis) in zip(("baseline", "value"), zip(models.values(), analyses, strict=True), strict=True):
        tables = {"facts": model_facts(model), "layers": layer_facts(CapturedModel(model)), "samples": analysis.samples}
        expected = dict(efficiency(tables, EfficiencySettings())["metrics"].select("metric", "value").iter_rows())
        assert expected["model_parameters"] == sum(each.numel() for each in model.parameters())
        for name in COSTS:
            assert rows[name][side] == pytest.approx(expected[name]), name
    assert rows["indexer_flops"]["verdict"] == "better" and rows["indexer_flops"]["difference"] < 0
    assert "model_latency_ms" not in rows


def test_latency_is_measured_where_it_is_asked_for() -> None:
    timed = IndexerInterpreter(extract=ExtractSettings(profile_lengths=(16, 32), profile_repeats=2), profile=True)
    one, other = (timed.analyze_positional_bias(tiny_dsa(), ids_of(2, 40), name=name) for name in ("one", "other"))
    rows = {row["metric"]: row for row in compare_indexer_analyses(one, other).overall.to_dicts()}
    for name in ("model_latency_ms", "indexer_latency_ms", "attention_latency_ms"):
        assert rows[name]["baseline"] > 0 and rows[name]["value"] > 0 and rows[name]["verdict"] is None
        assert rows[name]["ci_low"] <= rows[name]["difference"] <= rows[name]["ci_high"]


def test_two_models_of_one_class_are_told_apart_by_k_and_heads_or_numbered(interpreter) -> None:
    ids = ids_of(2, 40)
    found = [interpreter.analyze_positional_bias(tiny_dsa(topk=k), ids) for k in (8, 4)]
    assert [each.model.partition(" ")[2] for each in found] == ["(k 8, heads 8)", "(k 4, heads 8)"]
    apart = compare_indexer_analyses(*found)
    assert (apart.baseline, apart.candidate) == tuple(each.model for each in found)
    traced = [interpreter.analyze_positional_bias(Tracing(tiny_dsa()), ids) for _ in range(2)]
    assert compare_indexer_analyses(*traced).candidate == "Tracing (k 8) 2"
    showing = [interpreter.analyze_positional_bias(Showing(tiny_dsa()), ids) for _ in range(2)]
    numbered = compare_indexer_analyses(*showing)
    assert (numbered.baseline, numbered.candidate) == ("Showing 1", "Showing 2")
    assert set(numbered.metrics["candidate"]) == {"Showing 2"}


def test_a_model_without_scores_of_heads_is_compared_in_what_is_known(interpreter) -> None:
    ids = ids_of(4, 40)
    model = tiny_dsa()
    seen = interpreter.analyze_indexer_heads(model, ids)
    with pytest.warns(UserWarning, match="shows no scores of single indexer heads"):
        unseen = interpreter.analyze_indexer_heads(Around(Showing(model)), ids)
    for pair, known, unknown in (((seen, unseen), "baseline", "value"), ((unseen, seen), "value", "baseline")):
        rows = {row["metric"]: row for row in compare_indexer_analyses(*pair).overall.to_dicts()}
        assert rows["head_effective"][known] == seen.head_effective and rows["head_effective"][unknown] is None
        assert rows["model_parameters"]["difference"] == 0 and rows["model_parameters"]["verdict"] == "equal"
        assert rows["indexer_flops"][known] > 0 and rows["indexer_flops"][unknown] is None
    alone = compare_indexer_analyses(unseen, unseen)
    assert alone.overall["metric"].to_list() == ["model_parameters"]


class Around(nn.Module):
    """A module whose parameters are known, behind the two methods that published code has."""

    def __init__(self, shown: Showing) -> None:
        super().__init__()
        self.inner = shown.inner
        self.get_selected_tokens, self.get_attention_weights = shown.get_selected_tokens, shown.get_attention_weights


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
