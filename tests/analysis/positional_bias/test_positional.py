"""Claims about positional bias."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.metrics.blocks import BLOCK
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias
from indexscope.analysis.positional_bias.bias import CAP, Pair, bias, bias_parts, linearised
from indexscope.analysis.positional_bias.tally import tally
from indexscope.analysis.positional_bias.totals import totals
from tests.analysis import planted

SETTINGS = PositionalBiasSettings(resamples=200)


def selections(kind: str, samples: int = 10, length: int = 60, k: int = 8) -> dict[str, pl.DataFrame]:
    t, s = np.arange(length)[:, None], np.arange(length)[None, :]
    frames = []
    for sample in range(samples):
        selected = {
            "recent": (t - s >= 0) & (t - s < k),
            "oldest": (s < k) & (s <= t),
        }[kind]
        frames.append(planted.positions(sample, 0, length, selected))
    return {"positions": pl.concat(frames)}


def metric(result: dict[str, pl.DataFrame], name: str, layer: int | None = None) -> dict[str, float]:
    rows = result["metrics"].filter(pl.col("metric") == name)
    return rows.filter(pl.col("layer").eq_missing(pl.lit(layer, dtype=pl.Int16))).row(0, named=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(10, 40), st.integers(1, 8))
def test_expected_selections_add_up_to_the_selections(length: int, k: int) -> None:
    """Whatever is selected, chance is given the same number of selections: bins only redistribute them."""
    random = np.random.default_rng(length)
    rows = planted.positions(0, 0, length, planted.random_selection(random, length, k))
    assert rows["selections"].sum() == pytest.approx(rows["expected_selections"].sum())


def test_a_sliding_window_has_the_lift_that_a_loop_finds() -> None:
    """Distances 0 to 7 are always selected: lift at d = 0 is queries / sum of k / n_t; 8 and beyond are never."""
    length, k = 60, 8
    result = positional_bias.run(selections("recent", samples=4), SETTINGS)
    lift = result["lift"].filter(pl.col("layer").is_null() & (pl.col("axis") == "distance"))
    queries = [t for t in range(length) if t + 1 > k]
    expected = sum(k / (t + 1) for t in queries)
    assert lift["lift"][0] == pytest.approx(len(queries) / expected)
    assert lift["label"].to_list() == ["0", "1", "2-3", "4-7", "8-15", "16-31", "32-63"]
    assert lift["lift"][-1] == 0.0
    assert lift["ci_low"][0] == pytest.approx(lift["lift"][0])  # every sample is the same
    assert metric(result, "oldest_lift")["value"] == 0.0


def test_bias_of_a_never_selected_distance_is_capped() -> None:
    assert bias(np.array([4.0, 0.0]), np.array([2.0, 2.0])) == pytest.approx((1.0 + CAP) / 2)


def test_bias_equals_its_definition_on_the_sums_over_samples() -> None:
    tables = planted.features(samples=5, layers=2, seed=2)
    result = positional_bias.run(tables, SETTINGS)
    far = pl.col("distance") > 5
    parts = {"recency_bias": ~far, "oldest_bias": far & pl.col("oldest"), "other_bias": far & ~pl.col("oldest")}
    sums = (
        tables["positions"]
        .with_columns(oldest=far & (pl.col("relative") == 0))
        .group_by("layer", "distance", "oldest")
        .agg(pl.col("selections").sum(), pl.col("expected_selections").sum())
    )
    for layer in (0, 1, None):
        own = sums if layer is None else sums.filter(pl.col("layer") == layer)
        total = own["expected_selections"].sum()
        for name, among in {"positional_bias": pl.lit(True), **parts}.items():
            cells = own.filter(among).select("selections", "expected_selections").iter_rows()
            slow = sum(e / total * min(CAP, abs(math.log2(max(s / e, 1e-9)))) for s, e in cells)
            assert metric(result, name, layer)["value"] == pytest.approx(slow), name


def test_layers_with_opposite_biases_do_not_cancel() -> None:
    near = selections("recent")["positions"]
    far = selections("oldest")["positions"].with_columns(layer=pl.lit(1, dtype=pl.Int16))
    result = positional_bias.run({"positions": pl.concat([near, far])}, SETTINGS)
    overall, layers = metric(result, "positional_bias")["value"], [metric(result, "positional_bias", i) for i in (0, 1)]
    assert overall == pytest.approx(sum(row["value"] for row in layers) / 2)


def weighed(frame: pl.DataFrame, sample: int, weight: float) -> pl.DataFrame:
    """The table with one sample counting for more than one."""
    counts = ("selections", "expected_selections", "attention_mass", "attention_expected")
    own = pl.col("sample") == sample
    return frame.with_columns(pl.when(own).then(pl.col(name) * weight).otherwise(pl.col(name)) for name in counts)


BIASES = (
    "positional_bias", "recency_bias", "oldest_bias", "other_bias", "excess_bias", "attention_positional_bias",
)  # fmt: skip


def estimates(frame: pl.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return bias_parts(tally(frame), totals([frame])[0]["parts"])


@pytest.mark.parametrize("name", BIASES)
def test_the_linearisation_agrees_with_a_numerical_derivative(name: str) -> None:
    """A sample's term is its influence: the change of the bias when the sample weighs a little more."""
    frame = planted.features(samples=4, layers=2, seed=7)["positions"]
    random = np.random.default_rng(1)
    frame = frame.with_columns(attention_mass=pl.col("attention_mass") * random.uniform(0.5, 2, frame.height))
    top, bottom = estimates(frame)[name]
    whole = top.sum() / bottom.sum()
    step = 1e-6
    for sample in range(4):
        moved_top, moved_bottom = estimates(weighed(frame, sample, 1 + step))[name]
        influence = (top[sample].sum() - whole * bottom[sample].sum()) / bottom.sum()
        assert (moved_top.sum() / moved_bottom.sum() - whole) / step == pytest.approx(influence, abs=1e-4)


def test_the_linearised_terms_sum_to_the_bias_exactly() -> None:
    own = tally(planted.features(samples=4, layers=1, seed=7)["positions"]).along("parts")
    total_s, total_e = own.selections.sum(axis=0), own.expected.sum(axis=0)
    terms = linearised(Pair(own.selections, own.expected, total_s, total_e))
    assert terms.sum() / own.expected.sum() == pytest.approx(float(bias(total_s, total_e)[0]), rel=1e-12)


@pytest.mark.parametrize("cuts", [[1, 3], [2, 300, 301], [256], [257, 400]])
def test_the_cut_into_shards_changes_no_bit(cuts: list[int]) -> None:
    """More samples than a block, so that blocks span shards and shards span blocks."""
    own = planted.features(samples=2 * BLOCK + 40, layers=2, one_map=True)
    random = np.random.default_rng(0)
    height = own["positions"].height
    varied = pl.col("selections") * pl.Series(random.uniform(0.5, 1.5, height))
    tables = own | {"positions": own["positions"].with_columns(selections=varied)}
    whole = positional_bias.run(tables, PositionalBiasSettings(resamples=20))
    edges = [0, *cuts, 10_000]

    class Cut:
        def __contains__(self, name: object) -> bool:
            return name in tables

        def shards(self, names: Sequence[str]) -> Iterator[dict[str, pl.DataFrame]]:
            for first, last in pairwise(edges):
                yield {name: tables[name].filter(pl.col("sample").is_between(first, last - 1)) for name in names}

    parts = positional_bias.run(Cut(), PositionalBiasSettings(resamples=20))
    for name, frame in whole.items():
        assert frame.equals(parts[name]), name


def test_a_dense_model_has_the_lift_of_its_attention_and_no_selection() -> None:
    result = positional_bias.run(planted.features(top_k=None), SETTINGS)
    lift = result["lift"]
    assert lift["lift"].null_count() == lift.height
    assert lift["selections"].null_count() == lift.height
    # The planted attention is uniform.
    assert lift["attention_lift"].to_numpy() == pytest.approx(1.0)
    names = {"attention_positional_bias", "attention_recency_lift", "attention_oldest_lift"}
    assert set(result["metrics"]["metric"]) == set(result["per_sample"]["metric"]) == names
    assert metric(result, "attention_positional_bias")["value"] == pytest.approx(0.0, abs=1e-9)


def test_values_by_sample_give_the_metric_again() -> None:
    result = positional_bias.run(planted.features(seed=5), SETTINGS)
    again = (
        result["per_sample"]
        .group_by("metric", "layer")
        .agg(again=(pl.col("value") * pl.col("weight")).sum() / pl.col("weight").sum())
    )
    sampled = result["metrics"].filter(pl.col("metric") != "positional_bias_floor")
    both = sampled.join(again, on=["metric", "layer"], nulls_equal=True)
    assert both.height == sampled.height == 10 * 4
    assert both["again"].to_numpy() == pytest.approx(both["value"].to_numpy())


def test_the_order_of_rows_changes_nothing() -> None:
    tables = planted.features(seed=6)
    first, other = (positional_bias.run(own, SETTINGS) for own in (tables, planted.shuffled(tables, 2)))
    for name in first:
        assert_frame_equal(first[name], other[name], rel_tol=1e-12)


def test_no_positions_give_empty_frames() -> None:
    full, empty = positional_bias.run(planted.features(), SETTINGS), positional_bias.run({}, SETTINGS)
    for name, frame in full.items():
        assert empty[name].is_empty()
        assert empty[name].schema == frame.schema, name
