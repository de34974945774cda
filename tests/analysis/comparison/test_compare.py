"""Claims about comparing models on the same samples."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering import run as clustering
from indexscope.analysis.comparison.compare import combine, compare, compare_lengths
from indexscope.analysis.comparison.tables import LENGTH_COMPARISONS
from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.context_length import run as context_length
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.efficiency import EfficiencySettings
from indexscope.analysis.efficiency import run as efficiency
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.settings import ComparisonSettings
from indexscope.errors import IndexscopeError
from tests.analysis import planted

SETTINGS = ComparisonSettings(resamples=400)


def analysed(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return combine(
        {
            "distribution": distribution.run(tables, DistributionSettings(resamples=50)),
            "positional_bias": positional_bias.run(tables, PositionalBiasSettings(resamples=50)),
            "efficiency": efficiency.run(tables, EfficiencySettings(resamples=50)),
            "clustering": clustering.run(tables, ClusteringSettings(clusters=2)),
        }
    )


def planted_pair(
    values: Mapping[str, list[float]], weights: list[float], metric: str
) -> dict[str, dict[str, pl.DataFrame]]:
    """Models with one metric whose values by sample are given."""
    models = {}
    for name, own in values.items():
        n = len(own)
        frame = pl.DataFrame(
            {"metric": [metric] * n, "layer": [None] * n, "sample": range(n), "value": own, "weight": weights},
            schema={"metric": pl.String, "layer": pl.Int16, "sample": pl.Int32, "value": float, "weight": float},
        )
        models[name] = combine({"planted": {"per_sample": frame}})
    return models


def only(frame: pl.DataFrame, metric: str, layer: int | None = None) -> dict[str, float]:
    rows = frame.filter((pl.col("metric") == metric) & pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16)))
    assert rows.height == 1, metric
    return rows.row(0, named=True)


def test_a_model_compared_with_itself_differs_in_nothing() -> None:
    own = analysed(planted.features(samples=10))
    rows = compare({"a": own, "b": own}, "a", SETTINGS)
    assert set(rows["candidate"]) == {"b"}
    known = rows.drop_nulls("difference")
    assert known.height > 100
    assert known["difference"].abs().max() == 0.0
    assert rows["better"].null_count() == rows.height


def test_the_difference_is_that_of_the_two_estimates() -> None:
    first, second = analysed(planted.features(seed=1)), analysed(planted.features(seed=1, shift=0.05))
    rows = compare({"a": first, "b": second}, "a", SETTINGS)
    for metric in ("selection_recall", "recall_of_oracle", "local_global_ratio", "perplexity", "efficiency_score"):
        one, other = only(first["metrics"], metric), only(second["metrics"], metric)
        row = only(rows, metric)
        assert row["baseline"] == pytest.approx(one["value"])
        assert row["value"] == pytest.approx(other["value"])
        assert row["difference"] == pytest.approx(other["value"] - one["value"])


def test_what_is_hard_about_a_sample_cancels() -> None:
    """Likelihoods vary by 4 nats between samples and by 0.05 between models: the paired interval is narrow."""
    random = np.random.default_rng(0)
    hard = random.uniform(1, 5, 30)
    values = {"a": hard.tolist(), "b": (hard - 0.05 + random.normal(0, 0.01, 30)).tolist()}
    row = only(compare(planted_pair(values, [100.0] * 30, "nll"), "a", SETTINGS), "nll")
    assert row["ci_high"] < 0
    assert row["ci_high"] - row["ci_low"] < 0.02
    assert row["better"] is True
    assert row["n"] == 30


def test_weights_are_those_of_the_metric() -> None:
    values = {"a": [1.0, 1.0], "b": [1.0, 2.0]}
    row = only(compare(planted_pair(values, [1.0, 3.0], "nll"), "a", SETTINGS), "nll")
    assert row["difference"] == pytest.approx(0.75)


def test_noise_is_neither_better_nor_worse() -> None:
    random = np.random.default_rng(2)
    values = {"a": random.normal(2, 1, 40).tolist(), "b": random.normal(2, 1, 40).tolist()}
    row = only(compare(planted_pair(values, [1.0] * 40, "nll"), "a", SETTINGS), "nll")
    assert row["ci_low"] < 0 < row["ci_high"]
    assert row["better"] is None


def test_equal_models_are_called_different_about_as_often_as_the_confidence_says() -> None:
    random = np.random.default_rng(5)
    called = 0
    for _ in range(150):
        values = {"a": random.normal(2, 1, 12).tolist(), "b": random.normal(2, 1, 12).tolist()}
        row = only(compare(planted_pair(values, [1.0] * 12, "nll"), "a", ComparisonSettings(resamples=200)), "nll")
        called += row["better"] is not None
    assert called / 150 < 0.12


def test_rounding_is_not_a_difference() -> None:
    """The same dense model run twice, in another order of additions: every sample is worse by 3e-8."""
    values = {"a": [2.0 + i / 10 for i in range(20)], "b": [(2.0 + i / 10) * (1 + 3e-8) for i in range(20)]}
    row = only(compare(planted_pair(values, [1.0] * 20, "dense_nll"), "a", SETTINGS), "dense_nll")
    assert row["difference"] > 0
    assert row["better"] is None


@pytest.mark.parametrize(("metric", "better"), [("accuracy", True), ("nll", False), ("mean_distance", None)])
def test_a_clear_rise_is_judged_by_the_direction_of_the_metric(metric: str, better: bool | None) -> None:
    values = {"a": [0.1, 0.2, 0.3], "b": [0.5, 0.6, 0.7]}
    row = only(compare(planted_pair(values, [1.0] * 3, metric), "a", SETTINGS), metric)
    assert row["better"] is better


def test_one_sample_settles_nothing() -> None:
    row = only(compare(planted_pair({"a": [1.0], "b": [3.0]}, [1.0], "nll"), "a", SETTINGS), "nll")
    assert row["difference"] == 2.0
    assert row["ci_low"] is row["ci_high"] is row["better"] is None


def test_derived_metrics_are_resampled_with_what_they_derive_from() -> None:
    """The perplexity is exp(nll): the interval of a difference of exponentials, not the exponential of an interval."""
    values = {"a": [1.0, 1.2, 1.4] * 5, "b": [1.1, 1.3, 1.5] * 5}
    rows = compare(planted_pair(values, [1.0] * 15, "nll"), "a", SETTINGS)
    row = only(rows, "perplexity")
    assert row["difference"] == pytest.approx(math.exp(1.3) - math.exp(1.2))
    # The difference of likelihoods is 0.1 in every sample; that of perplexities still depends on the samples.
    assert only(rows, "nll")["ci_high"] - only(rows, "nll")["ci_low"] == pytest.approx(0, abs=1e-5)
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_counts_differ_without_an_interval() -> None:
    tables = planted.features()
    fewer = tables | {"facts": tables["facts"].with_columns(indexer_parameters=pl.lit(100, dtype=pl.Int64))}
    rows = compare({"a": analysed(tables), "b": analysed(fewer)}, "a", SETTINGS)
    row = only(rows, "indexer_parameters")
    assert (row["baseline"], row["value"], row["difference"]) == (500, 100, -400)
    assert row["better"] is True
    assert row["ci_low"] is row["n"] is None
    assert only(rows, "model_parameters")["better"] is None  # equal


def test_timings_have_a_range_and_are_never_called_faster() -> None:
    tables = planted.features()
    models = {
        name: analysed(tables | {"profile": planted.profile(milliseconds)})
        for name, milliseconds in (("a", 2.0), ("b", 1.5), ("c", 0.8))
    }
    rows = compare(models, "a", SETTINGS)
    near, far = (only(rows.filter(pl.col("candidate") == name), "indexer_latency_ms") for name in ("b", "c"))
    assert near["better"] is None
    assert (near["ci_low"], near["ci_high"]) == (pytest.approx(-1.5), pytest.approx(0.5))
    assert (far["ci_low"], far["ci_high"]) == (pytest.approx(-2.2), pytest.approx(-0.2))
    assert far["better"] is None, "the models were timed at different times, under whatever load there was"
    assert far["n"] == 5


def test_metrics_that_only_one_model_has_are_listed() -> None:
    dense, sparse = analysed(planted.features(top_k=None)), analysed(planted.features())
    rows = compare({"dense": dense, "sparse": sparse}, "dense", SETTINGS)
    row = only(rows, "selection_recall")
    assert row["baseline"] is None
    assert row["value"] is not None
    assert row["difference"] is row["better"] is None
    assert only(rows, "nll")["difference"] is not None


def test_other_samples_are_refused_in_one_line() -> None:
    first, second = analysed(planted.features(samples=4)), analysed(planted.features(samples=6))
    with pytest.raises(IndexscopeError) as error:
        compare({"a": first, "b": second}, "a", SETTINGS)
    text = str(error.value)
    assert "comparison of b with a" in text
    assert "different samples (4 and 6; 2 unmatched, the first is sample 4)" in text
    assert "\n" not in text


def test_an_unknown_baseline_is_refused() -> None:
    with pytest.raises(IndexscopeError, match="no model named c"):
        compare({"a": analysed({}), "b": analysed({})}, "c", SETTINGS)


def test_a_baseline_alone_gives_no_rows_but_the_columns() -> None:
    own = analysed(planted.features())
    assert compare({"a": own}, "a", SETTINGS).columns == compare({"a": own, "b": own}, "a", SETTINGS).columns


def test_short_samples_that_only_one_model_selects_from_are_no_wrong_pairing() -> None:
    """With k = 60 the shorter samples have nothing in effect, but they are the same samples."""
    tables = planted.features(length=100, top_k=60, seed=5)
    other = planted.features(length=100, top_k=8, seed=5)
    frames = [
        {"positional_bias": positional_bias.run(own, PositionalBiasSettings(resamples=20))} for own in (tables, other)
    ]
    rows = compare({"a": combine(frames[0]), "b": combine(frames[1])}, "a", SETTINGS)
    assert only(rows, "recency_lift")["n"] < 6


def test_rows_come_in_the_registry_order_with_the_overall_row_first() -> None:
    own = analysed(planted.features())
    rows = compare({"a": own, "b": own}, "a", SETTINGS)
    assert rows["metric"][0] == "nll"
    recall = rows.filter(pl.col("metric") == "selection_recall")
    assert recall["layer"].to_list() == [None, 0, 1, 2]


def test_a_comparison_by_length_is_that_of_studies_of_the_lengths() -> None:
    """Values and differences at every length are those of the analysis by length of either model on its own."""
    tables = {"a": planted.features(seed=1), "b": planted.features(seed=1, shift=0.05)}
    found = {name: context_length.run(own, ContextLengthSettings(resamples=20)) for name, own in tables.items()}
    rows = compare_lengths({name: own["by_sample"] for name, own in found.items()}, "a", SETTINGS)
    assert rows.columns == list(LENGTH_COMPARISONS.schema)
    assert {"nll", "selection_recall", "recall_of_oracle", "normalized_entropy"} <= set(rows["metric"])
    assert "oracle_recall" not in rows["metric"], "it is there for recall_of_oracle to derive from"
    keys = ["metric", "length", "kind"]
    for column, name in (("baseline", "a"), ("value", "b")):
        own = found[name]["lengths"].filter(pl.col("layer").is_null()).select(*keys, own="value", samples="n")
        joined = rows.join(own, on=keys)
        assert joined.height == rows.height > 20
        assert joined[column].to_numpy() == pytest.approx(joined["own"].to_numpy())
        assert (joined["n"] == joined["samples"]).all()
    assert rows["difference"].to_numpy() == pytest.approx((rows["value"] - rows["baseline"]).to_numpy())


def test_at_the_longest_length_a_comparison_by_length_is_the_comparison() -> None:
    tables = {"a": planted.features(seed=1), "b": planted.features(seed=1, shift=0.05)}
    by_sample = {
        name: context_length.run(own, ContextLengthSettings(resamples=20))["by_sample"] for name, own in tables.items()
    }
    rows = compare_lengths(by_sample, "a", SETTINGS)
    whole = compare({name: analysed(own) for name, own in tables.items()}, "a", SETTINGS)
    last = rows.filter((pl.col("length") == rows["length"].max()) & (pl.col("kind") == "up to"))
    for metric in ("selection_recall", "recall_of_oracle", "normalized_entropy"):
        one, other = only(whole, metric), last.filter(pl.col("metric") == metric).row(0, named=True)
        for column in ("baseline", "value", "difference", "ci_low", "ci_high", "p", "effect", "mde"):
            known = [math.nan if row[column] is None else row[column] for row in (one, other)]
            assert known[1] == pytest.approx(known[0], rel=1e-9, abs=1e-12, nan_ok=True), (metric, column)


def test_a_comparison_by_length_has_no_rows_without_candidates_or_features() -> None:
    empty = context_length.run({}, ContextLengthSettings(resamples=20))["by_sample"]
    assert compare_lengths({"a": empty}, "a", SETTINGS).columns == list(LENGTH_COMPARISONS.schema)
    assert compare_lengths({"a": empty, "b": empty}, "a", SETTINGS).is_empty()


@pytest.mark.parametrize(("leaking", "void"), [(["b"], {"b"}), (["a"], {"b", "c"}), ([], set())])
def test_whatever_is_compared_with_a_model_that_leaks_has_no_verdict(leaking: list[str], void: set[str]) -> None:
    values = {"a": [5.0, 5.1, 5.2, 5.3], "b": [1.0, 1.1, 1.2, 1.3], "c": [9.0, 9.1, 9.2, 9.3]}
    rows = compare(planted_pair(values, [1.0] * 4, "nll"), "a", SETTINGS, leaking)
    sure = compare(planted_pair(values, [1.0] * 4, "nll"), "a", SETTINGS)
    assert set(sure["verdict"]) == {"better", "worse"}
    for row, before in zip(rows.iter_rows(named=True), sure.iter_rows(named=True), strict=True):
        judged = ("verdict", "better", "no_worse", "corrected")
        expected = ("leaks", None, None, None) if row["candidate"] in void else tuple(before[key] for key in judged)
        assert tuple(row[key] for key in judged) == expected
        assert row["difference"] == before["difference"] and row["ci_low"] == before["ci_low"]
    tables = {"a": planted.features(seed=1), "b": planted.features(seed=1, shift=0.05)}
    by_sample = {
        name: context_length.run(own, ContextLengthSettings(resamples=20))["by_sample"] for name, own in tables.items()
    }
    lengths = compare_lengths(by_sample, "a", SETTINGS, leaking)
    assert (lengths["verdict"] == "leaks").fill_null(value=False).to_list() == [bool(leaking)] * lengths.height
