"""Which queries of a sample are looked at, and that their weighted mean is the mean over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexscope.analysis.features.queries import sampled_queries

SAMPLES = 3000
Array = NDArray[np.float64]


def estimates(of: Array, count: int, samples: int = SAMPLES) -> Array:
    """The weighted mean of a quantity of each position [length], in every sample."""
    found = (sampled_queries(len(of), count, sample) for sample in range(samples))
    return np.array([np.average(of[queries], weights=weights) for queries, weights in found])


def spread(of: Array, count: int) -> float:
    """Standard deviation of the estimate where one position of each of equal stretches is drawn by chance."""
    stretches = of.reshape(count, -1)
    return float(np.sqrt(stretches.var(axis=1).sum()) / count)


@given(length=st.integers(1, 200_000), count=st.integers(1, 4096), sample=st.integers(0, 2**31 - 1))
def test_every_stretch_has_one_query_and_none_weighs_more_than_one_query_above_the_mean(
    length: int, count: int, sample: int
) -> None:
    queries, weights = sampled_queries(length, count, sample)
    assert len(queries) == len(weights) == min(length, count) and weights.sum() == length
    ends = weights.cumsum()
    assert ((queries >= ends - weights) & (queries < ends)).all()
    assert weights.max() < length / len(queries) + 1
    again = sampled_queries(length, count, sample)
    assert np.array_equal(queries, again[0]) and np.array_equal(weights, again[1])


@given(length=st.integers(0, 300), more=st.integers(0, 50), sample=st.integers(0, 99))
def test_a_sample_with_no_more_queries_than_are_looked_at_is_looked_at_whole(
    length: int, more: int, sample: int
) -> None:
    queries, weights = sampled_queries(length, length + more, sample)
    assert queries.tolist() == list(range(length)) and weights.tolist() == [1] * length
    assert all(len(part) == 0 for part in sampled_queries(length, 0, sample))


@given(stretch=st.integers(1, 50), count=st.integers(1, 40), times=st.integers(1, 6), sample=st.integers(0, 999))
def test_all_queries_of_a_count_are_among_those_of_its_multiple(
    stretch: int, count: int, times: int, sample: int
) -> None:
    length = stretch * count * times
    fewer, more = (sampled_queries(length, n, sample)[0] for n in (count, count * times))
    assert set(fewer.tolist()) <= set(more.tolist())


@pytest.mark.parametrize(("length", "count"), [(512, 32), (512, 1), (4096, 16)])
def test_the_mean_context_is_that_of_all_queries(length: int, count: int) -> None:
    """At 512 tokens 256.5; in one sample it is off by no more than half a stretch, however the places fall."""
    context = np.arange(1.0, length + 1)
    found, width = estimates(context, count), length / count
    off = spread(context, count)
    assert off == pytest.approx(np.sqrt((width**2 - 1) / 12 / count))
    assert abs(found - context.mean()).max() <= (width - 1) / 2
    assert abs(found.mean() - context.mean()) < 4 * off / np.sqrt(SAMPLES)
    assert found.std() == pytest.approx(off, rel=0.06)


def test_what_falls_like_one_over_t_is_estimated_without_bias() -> None:
    of = 1 / np.arange(1.0, 513)
    found, off = estimates(of, 32), spread(of, 32)
    # The harmonic number H(512) = ln 512 + gamma + 1 / 1024, to 1e-6.
    assert of.mean() == pytest.approx((np.log(512) + np.euler_gamma + 1 / 1024) / 512, abs=1e-6)
    assert abs(found.mean() - of.mean()) < 4 * off / np.sqrt(SAMPLES)
    assert found.std() == pytest.approx(off, rel=0.06)


@pytest.mark.parametrize("period", [2, 4, 16, 512])
def test_what_repeats_with_the_position_is_seen_at_every_place(period: int) -> None:
    """Pools and blocks of keys, and the chunks of a run, repeat at powers of two, which divide the stretches."""
    of = (np.arange(16384) % period == period - 1).astype(float)
    found = estimates(of, 32, 500)
    assert abs(found.mean() - 1 / period) < 4 * spread(of, 32) / np.sqrt(500)


def test_neighbouring_samples_draw_independently() -> None:
    """Of two samples, places within the 32 stretches of 16 agree as often as chance has it."""
    places = np.stack([sampled_queries(512, 32, sample)[0] for sample in range(SAMPLES)]) % 16
    alike = (places[1:] == places[:-1]).mean(), (places[:, 1:] == places[:, :-1]).mean()
    for share in alike:
        assert abs(share - 1 / 16) < 4 * np.sqrt(1 / 16 * 15 / 16 / places[1:].size)
    counts = np.bincount(places.ravel(), minlength=16)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 45  # chi-square of 15 degrees: 1 in 10,000
