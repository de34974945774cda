from __future__ import annotations

import datasketches
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.features.sketch import BINS, COMPRESSION, KEPT_BITS, ScoreSketch, bin_values, tdigest_bytes


def sketch_of(values: np.ndarray) -> ScoreSketch:
    values = values.astype(np.float32)
    sketch, centre = ScoreSketch(), float(values[0])
    about = values.astype(np.float64) - centre
    extremes = (values.min(), values.max(), (values == 0).sum())
    sketch.add(np.array([len(values), about.sum(), np.square(about).sum(), *extremes], dtype=np.float64), centre)
    bins = (values.view(np.uint32) >> (32 - KEPT_BITS)).astype(np.int64)
    sketch.histogram += np.bincount(bins, minlength=BINS)
    return sketch


def digest_of(values: np.ndarray) -> datasketches.tdigest_float:
    return datasketches.tdigest_float.deserialize(sketch_of(values).serialize())


def test_the_layout_is_the_librarys_own() -> None:
    for values in ([1.5, 2.5, 3.5], [-4.0, 0.0, 0.25, 8.0]):
        theirs = datasketches.tdigest_float(COMPRESSION)
        theirs.update(np.array(values, dtype=np.float32))
        ones = np.ones(len(values), dtype=np.int64)
        ours = bytearray(tdigest_bytes(np.array(values), ones, values[0], values[-1]))
        ours[5] = theirs.serialize()[5]  # in which direction the next merge goes
        assert ours == theirs.serialize()


@pytest.mark.parametrize("draw", ["normal", "lognormal", "uniform"])
def test_quantiles_and_ranks_are_as_good_as_those_of_a_digest_fed_score_by_score(draw) -> None:
    values = getattr(np.random.default_rng(0), draw)(size=200_000).astype(np.float32)
    ours, theirs = digest_of(values), datasketches.tdigest_float(COMPRESSION)
    theirs.update(values)
    ordered = np.sort(values)
    for q in (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999):
        found, exact = ours.get_quantile(q), np.quantile(values, q)
        rank = np.searchsorted(ordered, found) / len(values)
        # The digest's own error, or that of the bins.
        assert abs(rank - q) <= 0.02 * np.sqrt(q * (1 - q)) + 1e-4 or abs(found / exact - 1) < 0.002
        assert abs(ours.get_rank(np.quantile(values, q)) - q) < 0.006
        assert abs(ours.get_quantile(q) - theirs.get_quantile(q)) <= 0.06 * abs(ordered[-1])
    assert ours.get_total_weight() == len(values)
    assert (ours.get_min_value(), ours.get_max_value()) == (ordered[0], ordered[-1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=60))
def test_any_scores_keep_their_weight_and_merge(values) -> None:
    array = np.array(values, dtype=np.float32)
    one = digest_of(array)
    assert one.get_total_weight() == len(array)
    assert one.get_min_value() == array.min() and one.get_max_value() == array.max()
    merged = datasketches.tdigest_float(4000)
    for _ in range(3):
        merged.merge(datasketches.tdigest_float.deserialize(sketch_of(array).serialize()))
    assert merged.get_total_weight() == 3 * len(array)


def test_a_spike_of_zeros_stays_a_spike() -> None:
    values = np.maximum(np.random.default_rng(1).normal(size=50_000), 0)
    digest = digest_of(values)
    assert digest.get_quantile(0.3) == 0.0
    assert digest.get_quantile(0.9) == pytest.approx(np.quantile(values, 0.9), rel=0.02)


def test_the_middle_of_a_bin_is_near_all_of_its_scores() -> None:
    values = np.random.default_rng(2).normal(size=10_000).astype(np.float32)
    middle = bin_values((values.view(np.uint32) >> (32 - KEPT_BITS)).astype(np.int64))
    assert np.abs(middle / values - 1).max() < 0.002
    assert bin_values(np.array([0, 1 << (KEPT_BITS - 1)])).tolist() == [0.0, 0.0]  # 0 and -0


def test_weights_beyond_32_bits_become_several_centroids() -> None:
    weights = np.array([1, 2**34 + 5, 1])
    digest = datasketches.tdigest_float.deserialize(tdigest_bytes(np.array([0.0, 1.0, 2.0]), weights, 0.0, 2.0))
    assert digest.get_total_weight() == weights.sum()
    assert digest.get_quantile(0.5) == 1.0


def test_a_packed_sketch_is_written_as_one_that_is_not() -> None:
    whole, packed = ScoreSketch(minimum=0.5, maximum=2.0), ScoreSketch(minimum=0.5, maximum=2.0)
    for sketch in (whole, packed):
        sketch.histogram[[8192, 8200, 8300]] = 3, 1, 7
    packed.pack()
    assert packed.histogram.tolist() == [3, 1, 7]
    assert packed.serialize() == whole.serialize()
