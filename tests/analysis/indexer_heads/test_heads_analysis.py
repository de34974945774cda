"""Claims about the summary of single indexer heads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.indexer_heads import IndexerHeadsSettings
from indexscope.analysis.indexer_heads import run as indexer_heads
from indexscope.analysis.indexer_heads.collect import head_collector
from indexscope.analysis.indexer_heads.focus import words
from indexscope.analysis.indexer_heads.sums import effective_heads
from indexscope.analysis.indexer_heads.tables import COLLECTED, REMOVED, RESULTS
from indexscope.analysis.metrics.sums import from_per_sample
from tests.analysis.closeup.head_rows import closeup_rows, collected
from tests.analysis.indexer_heads import planted_heads
from tests.analysis.indexer_heads.planted_heads import join_tables, noisy, roles
from tests.declared import check

Frames = dict[str, pl.DataFrame]
SETTINGS = IndexerHeadsSettings(resamples=100)


@pytest.fixture(scope="module")
def tables() -> Frames:
    return roles()


@pytest.fixture(scope="module")
def found(tables: Frames) -> Frames:
    return indexer_heads.run(tables, SETTINGS)


@pytest.fixture(scope="module")
def noise() -> Frames:
    return noisy()


def metric(result: Mapping[str, pl.DataFrame], name: str, layer: int | None = None) -> dict[str, float]:
    rows = result["metrics"].filter(pl.col("metric") == name)
    return rows.filter(pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16))).row(0, named=True)


def test_planted_roles_are_told_in_words(found: Frames) -> None:
    told = found["focus"].filter(pl.col("layer") == 1).sort("indexer_head")["words"].to_list()
    assert told == [
        "previous token", "sink", "previous token", "inactive", "induction", "far", "against previous token"
    ]  # fmt: skip


def test_words_follow_their_thresholds() -> None:
    plain = {"adds_share": 1.0, "against_share": 0.0, "mean_distance": 100.0, "uniform_mean_distance": 100.0}
    assert words(plain) == "broad"
    assert words(plain | {"mean_distance": 125.0}) == "far"
    assert words(plain | {"mean_distance": 75.0}) == "near"
    # (0.44 - 0.2) / 0.8 = 0.3, and just below it.
    assert words(plain | {"local": 0.4401, "uniform_local": 0.2}) == "local"
    assert words(plain | {"local": 0.4399, "uniform_local": 0.2}) == "broad"
    both = {"local": 0.9, "uniform_local": 0.1, "sink": 0.31, "self": 0.5, "uniform_sink": 0.0, "uniform_self": 0.0}
    assert words(plain | both) == "own token and sink"
    assert words({"adds_share": 0.04, "against_share": 0.0}) == "inactive"
    assert words({"adds_share": None, "against_share": None}) == "unknown"
    minus = {"adds_share": 0.3, "against_share": 0.7, "against_sink": 0.8, "against_uniform_sink": 0.1}
    assert words(minus) == "against sink (either sign)"
    assert words({"adds_share": 0.0, "against_share": 1.0, **_against(plain)}) == "against keys everywhere"


def _against(plain: Mapping[str, float]) -> dict[str, float]:
    return {f"against_{name}": value for name, value in plain.items() if "distance" in name}


def test_equal_heads_count_all_and_a_head_that_does_everything_counts_one() -> None:
    def table(contributions: Sequence[float]) -> pl.DataFrame:
        count = len(contributions)
        columns = {"sample": [0] * count, "layer": [0] * count, "indexer_head": list(range(count))}
        return pl.DataFrame(columns | {"contribution": contributions, "scored_weight": [3.0] * count})

    for contributions, expected in (([0.25] * 4, 4.0), ([1.0, 0.0, 0.0], 1.0), ([0.5, 0.5, 0.0], 2.0)):
        sums = effective_heads(table(contributions))
        assert sums.numerator[0] / sums.denominator[0] == pytest.approx([expected, expected])


def effective(contributions: np.ndarray, weights: np.ndarray) -> float:  # type: ignore[type-arg]
    x = (contributions * weights[:, None]).sum(axis=0)
    c = x / x.sum()
    return math.exp(-sum(own * math.log(own) for own in c if own > 0))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_the_linearisation_of_effective_heads_agrees_with_a_numerical_derivative(seed: int) -> None:
    random = np.random.default_rng(seed)
    contributions, weights = random.dirichlet(np.ones(5), 4), random.integers(1, 50, 4).astype(float)
    frame = pl.DataFrame(
        {
            "sample": np.repeat(np.arange(4), 5),
            "layer": np.zeros(20, int),
            "indexer_head": np.tile(np.arange(5), 4),
            "contribution": contributions.ravel(),
            "scored_weight": np.repeat(weights, 5),
        }
    )
    sums = effective_heads(frame)
    top, bottom = sums.numerator[:, 0], sums.denominator[:, 0]
    whole = top.sum() / bottom.sum()
    assert whole == pytest.approx(effective(contributions, weights))
    for sample in range(4):
        step = 1e-6
        moved = weights.copy()
        moved[sample] *= 1 + step
        influence = (top[sample] - whole * bottom[sample]) / bottom.sum()
        assert (effective(contributions, moved) - whole) / step == pytest.approx(influence, abs=1e-4)


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_metrics_equal_their_definition_on_the_tables(noise: Frames, layer: int | None) -> None:
    result = indexer_heads.run(noise, SETTINGS)
    own, pairs = (
        [row for row in noise[name].iter_rows(named=True) if layer is None or row["layer"] == layer]
        for name in ("indexer_heads", "indexer_head_pairs")
    )
    weight = sum(row["weight"] for row in own)
    agreement = sum(row["own_overlap"] * row["weight"] for row in own) / weight
    loss = sum((row["recall_with"] - row["recall_without"]) * row["weight"] for row in own) / weight
    assert metric(result, "head_agreement", layer)["value"] == pytest.approx(agreement)
    assert metric(result, "leave_one_out_loss", layer)["value"] == pytest.approx(loss)
    negative = sum(row["negative_share"] * row["weight"] for row in own) / weight
    assert metric(result, "negative_head_weights", layer)["value"] == pytest.approx(negative)
    for name, column in (("head_redundancy", "cosine"), ("head_correlation", "correlation")):
        known = [row for row in pairs if row[column] is not None]
        value = sum(row[column] * row[f"{column}_weight"] for row in known) / sum(
            row[f"{column}_weight"] for row in known
        )
        assert metric(result, name, layer)["value"] == pytest.approx(value)
        assert metric(result, name, layer)["n"] == 9


def test_values_by_sample_give_the_metrics_again(noise: Frames) -> None:
    result = indexer_heads.run(noise, SETTINGS)
    sums = from_per_sample(result["per_sample"])
    again = sums.numerator.sum(axis=0) / sums.denominator.sum(axis=0)
    assert len(sums.cells) == 18
    for (name, layer), value in zip(sums.cells, again, strict=True):
        assert metric(result, name, layer)["value"] == pytest.approx(value)


def test_every_mean_of_the_focus_is_a_ratio_of_sums_over_samples(noise: Frames) -> None:
    focus = indexer_heads.run(noise, SETTINGS)["focus"]
    weights = {"contribution": "scored_weight", "previous": "focus_weight", "against_sink": "against_weight"}
    for name in ("own_overlap", "recall_without", "contribution", "previous", "uniform_local", "against_sink"):
        weight = weights.get(name, "focus_weight" if name.startswith("uniform") else "weight")
        for row in focus.iter_rows(named=True):
            own = noise["indexer_heads"].filter(
                pl.col("layer") == row["layer"],
                pl.col("indexer_head") == row["indexer_head"],
                pl.col(name).is_not_null(),
            )
            assert row[name] == pytest.approx(np.average(own[name], weights=own[weight])), name
    assert (focus["own_overlap_ci_low"] < focus["own_overlap"]).all()
    assert (focus["own_overlap"] < focus["own_overlap_ci_high"]).all()


def test_pruning_losses_are_paired_within_samples(noise: Frames) -> None:
    table = noise["indexer_pruning"]
    assert table["sample"].unique().sort().to_list() == [1, 2, 3, 5, 6, 7]
    result = indexer_heads.run(noise, SETTINGS)["pruning"]
    for layer, removed in ((0, 2), (1, 3), (None, 1)):
        top = bottom = 0.0
        for row in table.iter_rows(named=True):
            if row["removed"] == removed and layer in (None, row["layer"]):
                whole = table.filter(sample=row["sample"], layer=row["layer"], removed=0)["recall"][0]
                top += (whole - row["recall"]) * row["weight"]
                bottom += row["weight"]
        own = result.filter(
            pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16)), pl.col("removed") == removed
        ).row(0, named=True)
        assert own["recall_loss"] == pytest.approx(top / bottom)
        assert own["flops_share"] == pytest.approx(1 - removed / 4)
        assert own["ci_low"] <= own["recall_loss"] <= own["ci_high"]
        assert own["n"] == 6


def test_the_silent_head_costs_nothing_whenever_it_goes(found: Frames) -> None:
    for layer in (0, 1):
        rows = found["pruning"].filter(pl.col("layer") == layer).sort("removed")
        assert rows["removed"].to_list() == list(range(7))
        assert rows["indexer_head"][0] is None
        assert rows["recall_loss"][0] == 0.0
        step = rows["indexer_head"].to_list().index(planted_heads.SILENT)
        assert rows["recall"][step] == pytest.approx(rows["recall"][step - 1], abs=1e-12)
        # Half of the attention is on the previous token, and the head that finds it stays to the last.
        assert planted_heads.PREVIOUS not in rows["indexer_head"].to_list()
        assert rows["recall"].min() > 0.5  # type: ignore[operator]


def test_removing_many_heads_from_layers_of_unequal_size_stops_at_the_smallest() -> None:
    rows = {
        "sample": [0] * 5,
        "layer": [0, 0, 1, 1, 1],
        "removed": [0, 1, 0, 1, 2],
        "indexer_head": [None, 1, None, 0, 2],
    }
    table = pl.DataFrame(
        rows | {"queries": [1] * 5, "weight": [2.0] * 5, "recall": [0.9, 0.7, 0.8, 0.8, 0.5], "overlap": [1.0] * 5}
    )
    result = indexer_heads.run({"indexer_pruning": table}, SETTINGS)["pruning"]
    together = result.filter(pl.col("layer").is_null())
    assert together["removed"].to_list() == [0, 1]
    assert together["recall_loss"].to_numpy() == pytest.approx([0.0, 0.1])
    assert together["flops_share"].to_numpy() == pytest.approx([1.0, 0.6])
    assert result.filter(pl.col("layer") == 1)["flops_share"].to_numpy() == pytest.approx([1.0, 2 / 3, 1 / 3])


def test_twins_correlate_and_a_silent_head_has_no_similarity(found: Frames) -> None:
    pairs = found["pairs"].filter(pl.col("layer") == 0)
    twins = pairs.filter(head_a=planted_heads.PREVIOUS, head_b=planted_heads.TWIN).row(0, named=True)
    assert twins["cosine"] == pytest.approx(1.0)
    assert twins["correlation"] == pytest.approx(1.0)
    silent = pairs.filter(pl.col("head_a") == planted_heads.SILENT)
    assert silent["cosine"].null_count() == silent.height
    assert silent["overlap"].null_count() == 0


@pytest.mark.parametrize(("k", "length"), [(2, 40), (8, 90), (30, 200)])
def test_random_heads_show_no_lift_at_any_k_and_length(k: int, length: int) -> None:
    """Of all bins and heads, at 95 % each, the bands hold 1 nearly always; so do those of ties alone."""
    random = np.random.default_rng(k)
    parts = []
    for sample in range(24):
        relu = random.random((4, 6, length))
        relu[:, 5] = 0.0
        rows = closeup_rows(relu, tuple(range(length - 4, length)), k)
        parts.append(collected(head_collector(), [[rows]], torch.zeros(length, dtype=torch.int64), sample))
    lift = indexer_heads.run(join_tables(parts), IndexerHeadsSettings(resamples=400))["lift"]
    drawn, silent = lift.filter(pl.col("indexer_head") < 5), lift.filter(pl.col("indexer_head") == 5)
    inside = (drawn["ci_low"] <= 1.0) & (drawn["ci_high"] >= 1.0)
    # Bands of bins with next to no selections are of the few values that counts can take.
    assert inside.filter(drawn["expected"] >= 10).mean() >= 0.85  # type: ignore[operator]
    together = drawn.group_by("axis", "bin").agg(pl.col("selections", "expected").sum())
    off = (together["selections"] - together["expected"]).abs() / together["expected"].sqrt()
    assert off.max() < 4.0  # type: ignore[operator]
    assert silent["lift"].to_numpy() == pytest.approx(1.0)


def test_the_far_head_lifts_the_oldest_keys_and_no_others(found: Frames) -> None:
    lift = found["lift"].filter(
        pl.col("layer") == 0, pl.col("indexer_head") == planted_heads.FAR, pl.col("axis") == "relative"
    )
    assert lift.filter(pl.col("bin") == 1)["ci_low"][0] > 1.0
    assert lift.filter(pl.col("bin") >= 3)["lift"].max() == 0.0


def test_scores_of_a_head_are_described_by_group(noise: Frames) -> None:
    moments = indexer_heads.run(noise, SETTINGS)["score_moments"]
    parts = noise["indexer_head_scores"].filter(layer=1, indexer_head=2, group="selected")
    row = moments.filter(layer=1, indexer_head=2, group="selected").row(0, named=True)
    assert row["count"] == parts["count"].sum()
    assert row["mean"] == pytest.approx(np.average(parts["mean"], weights=parts["count"]))
    assert row["zero_share"] == pytest.approx(parts["zeros"].sum() / parts["count"].sum())
    quantiles = indexer_heads.run(noise, SETTINGS)["score_quantiles"].filter(layer=1, indexer_head=2, group="selected")
    assert quantiles["value"].is_sorted()
    assert quantiles["value"][0] == parts["minimum"].min()


class Shards(dict[str, pl.DataFrame]):
    """Tables in shards of two samples."""

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        for first in range(0, 9, 2):
            yield {n: self[n].filter(pl.col("sample").is_between(first, first + 1)) for n in tables if n in self}


def test_shards_and_the_order_of_rows_change_nothing(noise: Frames) -> None:
    whole = indexer_heads.run(noise, SETTINGS)
    shuffled = {name: frame.sample(fraction=1.0, shuffle=True, seed=3) for name, frame in noise.items()}
    for other in (indexer_heads.run(Shards(noise), SETTINGS), indexer_heads.run(shuffled, SETTINGS)):
        for name, frame in whole.items():
            assert_frame_equal(frame, other[name], rel_tol=1e-9)


def test_no_tables_give_empty_frames_of_the_same_columns(found: Frames, tables: Frames) -> None:
    nothing = indexer_heads.run({}, SETTINGS)
    hollow = indexer_heads.run({name: frame.clear() for name, frame in tables.items()}, SETTINGS)
    for name, frame in found.items():
        for empty in (nothing, hollow):
            assert empty[name].is_empty()
            assert empty[name].schema == frame.schema, name


def test_frames_are_as_declared(found: Frames, tables: Frames) -> None:
    for declared, frames in ((RESULTS, found), (COLLECTED | REMOVED, tables)):
        for name, frame in frames.items():
            check(frame, declared[name])
