"""Claims about the distribution analysis."""

from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.distribution.run import TABLES
from tests.analysis import planted

SETTINGS = DistributionSettings(resamples=100)


def value(frame: pl.DataFrame, metric: str, layer: int | None = None) -> dict[str, float]:
    rows = frame.filter((pl.col("metric") == metric) & pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16)))
    assert rows.height == 1, metric
    return rows.row(0, named=True)


def test_means_weigh_every_query_the_same() -> None:
    """Three queries at 0.2 and one at 0.6 have a mean of 0.3, whatever rows they came in."""
    tables = planted.features(samples=1, layers=1, heads=1, length=4, top_k=None)
    attention = tables["attention"].filter(pl.col("bucket").is_in([0, 1]))
    attention = attention.with_columns(
        queries=pl.Series([1, 3], dtype=pl.Int32), sink_mass=pl.Series([0.6, 0.2], dtype=pl.Float32)
    )
    result = distribution.run(tables | {"attention": attention}, SETTINGS)
    assert value(result["metrics"], "sink_mass")["value"] == pytest.approx(0.3)


def test_ratios_are_of_sums_and_not_means_of_ratios() -> None:
    tables = planted.features(seed=8)
    own = distribution.run(tables, SETTINGS)["metrics"]
    rows = tables["attention"].select(pl.col("local_mass").cast(pl.Float64), "queries")
    local = (rows["local_mass"] * rows["queries"]).sum()
    beyond = ((1 - rows["local_mass"]) * rows["queries"]).sum()
    assert value(own, "local_global_ratio")["value"] == pytest.approx(local / beyond)
    indexer = tables["indexer"].drop_nulls("selection_recall")
    kept = (indexer["selection_recall"] * indexer["queries_in_effect"]).sum()
    best = (indexer["oracle_recall"] * indexer["queries_in_effect"]).sum()
    assert value(own, "recall_of_oracle")["value"] == pytest.approx(kept / best)


def test_perplexity_is_the_exponential_of_the_mean_and_so_is_its_interval() -> None:
    own = distribution.run(planted.features(samples=20), SETTINGS)["metrics"]
    nll, perplexity = value(own, "nll"), value(own, "perplexity")
    assert perplexity["value"] == pytest.approx(math.exp(nll["value"]))
    assert perplexity["ci_low"] == pytest.approx(math.exp(nll["ci_low"]), rel=1e-3)
    assert perplexity["n"] == nll["n"] == 20


def test_sparsity_cost_is_the_paired_difference_of_likelihoods() -> None:
    own = distribution.run(planted.features(), SETTINGS)["metrics"]
    cost = value(own, "sparsity_cost")
    assert cost["value"] == pytest.approx(0.1)
    assert cost["ci_low"] == pytest.approx(0.1)  # the planted difference is the same in every row


def test_without_a_dense_reference_its_metrics_are_unknown() -> None:
    tables = planted.features()
    tokens = tables["tokens"].with_columns(dense_nll=pl.lit(None, dtype=pl.Float64))
    own = distribution.run(tables | {"tokens": tokens}, SETTINGS)["metrics"]
    for metric in ("dense_nll", "sparsity_cost"):
        row = value(own, metric)
        assert row["value"] is None
        assert row["ci_low"] is None
        assert row["n"] == 0
    assert value(own, "nll")["value"] is not None


def test_where_nothing_is_in_effect_recall_is_unknown_and_the_share_in_effect_is_zero() -> None:
    own = distribution.run(planted.features(length=50, top_k=60), SETTINGS)["metrics"]
    assert value(own, "selection_recall")["value"] is None
    assert value(own, "in_effect")["value"] == 0.0


def test_share_in_effect_counts_queries() -> None:
    """One sample of 100 tokens and k = 8: the 92 queries with n_t > 8 are in effect."""
    tables = planted.features(samples=1, length=100)
    tokens = tables["samples"]["tokens"][0]
    own = distribution.run(tables, SETTINGS)["metrics"]
    for layer in (None, 0, 1, 2):
        assert value(own, "in_effect", layer)["value"] == pytest.approx((tokens - 8) / tokens)


def test_a_single_sample_has_estimates_without_intervals() -> None:
    own = distribution.run(planted.features(samples=1), SETTINGS)["metrics"]
    assert own["ci_low"].null_count() == own.height
    assert value(own, "nll")["value"] is not None


def test_buckets_add_up_to_the_metric() -> None:
    tables = planted.features(seed=4)
    result = distribution.run(tables, SETTINGS)
    rows = result["by_bucket"].filter((pl.col("metric") == "attention_entropy") & (pl.col("layer") == 1))
    weights = tables["attention"].filter(pl.col("layer") == 1).group_by("bucket").agg(pl.col("queries").sum())
    both = rows.join(weights, on="bucket")
    mean = (both["value"] * both["queries"]).sum() / both["queries"].sum()
    assert mean == pytest.approx(value(result["metrics"], "attention_entropy", 1)["value"])
    assert rows["n"].max() == 6


def test_buckets_that_no_query_in_effect_reaches_have_no_recall() -> None:
    rows = distribution.run(planted.features(top_k=8), SETTINGS)["by_bucket"]
    recall = rows.filter(pl.col("metric") == "selection_recall")
    assert recall["bucket"].min() == 3  # t = 8 is the first query with n_t > 8
    assert rows.filter(pl.col("metric") == "nll")["layer"].null_count() > 0
    assert rows.filter((pl.col("metric") == "nll") & pl.col("layer").is_not_null()).is_empty()


def test_heads_average_to_their_layer() -> None:
    tables = planted.features(seed=9)
    result = distribution.run(tables, SETTINGS)
    heads = result["by_head"].filter((pl.col("metric") == "self_mass") & (pl.col("layer") == 2))
    assert heads["head"].to_list() == [0, 1]
    # All heads of a layer see the same queries, so that their plain mean is the layer's.
    assert heads["value"].mean() == pytest.approx(value(result["metrics"], "self_mass", 2)["value"])


def test_shuffled_shards_give_identical_results() -> None:
    tables = planted.features(seed=6)
    first = distribution.run(tables, SETTINGS)
    other = distribution.run(planted.shuffled(tables, 11), SETTINGS)
    for name, frame in first.items():
        assert_frame_equal(frame, other[name], check_exact=True)


def test_empty_input_gives_empty_frames_with_the_same_columns() -> None:
    full, empty = distribution.run(planted.features(), SETTINGS), distribution.run({}, SETTINGS)
    for name, frame in full.items():
        assert empty[name].is_empty()
        assert empty[name].schema == frame.schema, name


def test_a_dense_model_has_attention_and_quality_only() -> None:
    result = distribution.run(planted.features(top_k=None), SETTINGS)
    found = set(result["metrics"]["metric"])
    assert {"nll", "attention_entropy", "local_global_ratio"} <= found
    assert not found & {"selection_recall", "in_effect", "head_recall", "tie_share"}
    assert result["score_quantiles"].is_empty()


def test_score_moments_merge_exactly() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(i, 1 + i, 50 + 30 * i).astype(np.float32) for i in range(4)]
    rows = [planted.score_row(i, 0, "selected", part) for i, part in enumerate(parts)]
    tables = {"scores": pl.DataFrame(rows, schema=planted.SCORES, orient="row")}
    row = distribution.run(tables, SETTINGS)["score_moments"].filter(pl.col("group") == "selected").row(0, named=True)
    every = np.concatenate(parts).astype(np.float64)
    assert row["count"] == len(every)
    assert row["mean"] == pytest.approx(every.mean())
    assert row["sd"] == pytest.approx(every.std())


def test_merged_quantiles_are_near_those_of_all_scores_together() -> None:
    random = np.random.default_rng(1)
    parts = [random.normal(random.normal(), 1.0, 2000).astype(np.float32) for _ in range(40)]
    rows = [planted.score_row(i, 0, "unselected", part) for i, part in enumerate(parts)]
    tables = {"scores": pl.DataFrame(rows, schema=planted.SCORES, orient="row")}
    found = distribution.run(tables, SETTINGS)["score_quantiles"].filter(pl.col("group") == "unselected")
    every = np.sort(np.concatenate(parts))
    ranks = np.searchsorted(every, found["value"].to_numpy()) / len(every)
    assert np.abs(ranks - found["quantile"].to_numpy()).max() < 0.01
    assert found["value"][0] == every[0]
    assert found["value"][-1] == every[-1]


def test_histograms_of_both_groups_share_their_bins_and_count_every_score() -> None:
    tables = planted.features()
    frame = distribution.run(tables, DistributionSettings(resamples=10, histogram_bins=12))["score_histogram"]
    own = frame.filter(pl.col("layer") == 0)
    edges = own.filter(pl.col("group") == "selected")["left"].to_list()
    assert own.filter(pl.col("group") == "unselected")["left"].to_list() == edges
    assert len(edges) == 12
    by_group = own.group_by("group").agg(
        pl.col("count").sum(), mass=(pl.col("density") * (pl.col("right") - pl.col("left"))).sum()
    )
    assert by_group["count"].to_list() == pytest.approx([2400.0, 2400.0])
    assert by_group["mass"].to_list() == pytest.approx([1.0, 1.0])


def test_constant_scores_make_one_bin() -> None:
    rows = [planted.score_row(0, 0, "selected", np.full(10, 3.0, dtype=np.float32))]
    tables = {"scores": pl.DataFrame(rows, schema=planted.SCORES, orient="row")}
    frame = distribution.run(tables, SETTINGS)["score_histogram"]
    assert frame.select("left", "right", "density", "count").rows() == [(2.5, 3.5, 1.0, 10.0)]


def test_a_study_of_usual_size_takes_a_moment() -> None:
    tables = planted.features(samples=64, layers=6, heads=6, length=600, one_map=True)
    assert set(TABLES) <= set(tables)
    start = time.perf_counter()
    distribution.run(tables, DistributionSettings())
    assert time.perf_counter() - start < 3.0
