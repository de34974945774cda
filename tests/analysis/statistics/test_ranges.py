"""Claims about intervals of quantities that have a least or a greatest value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import stdtrit

from indexscope.analysis.statistics.ranges import ANY, CHANGE, NOT_NEGATIVE, SHARE, Range, around
from indexscope.analysis.statistics.resampling import bootstrap_ratios, interval, ratio

RANGES = (SHARE, NOT_NEGATIVE, CHANGE, (1.0, np.inf), (-np.inf, 1.0), ANY, (0.0, 6.0))


def inside(share: float, within: Range) -> float:
    """A value that far into the range; an end of it for 0 and 1."""
    low, high = (float(end) for end in within)  # type: ignore[arg-type]
    if np.isfinite(low) and np.isfinite(high):
        return low + share * (high - low)
    if np.isfinite(low):
        return low + share * 10
    return high - share * 10 if np.isfinite(high) else share


@given(
    st.sampled_from(RANGES),
    st.floats(0, 1),
    st.floats(0, 1e6),
    st.floats(0.1, 1000),
)
@example(SHARE, 0.0, 0.0, 12.7)
@example(SHARE, 1.0, 0.3, 12.7)
@example(NOT_NEGATIVE, 1e-300, 1.0, 636.0)
def test_bounds_lie_within_the_range_and_around_the_value(within: Range, share: float, error: float, t: float) -> None:
    value = inside(share, within)
    low, high = around(np.array([value]), np.array([error]), t, within)
    assert within[0] <= low[0] <= value <= high[0] <= within[1]
    assert np.isfinite([low[0], high[0]]).all()


@given(st.floats(0.2, 0.8), st.floats(1e-7, 1e-5))
def test_a_small_error_far_from_both_ends_is_the_same_on_every_scale(value: float, error: float) -> None:
    straight = np.concatenate(around(np.array([value]), np.array([error]), 2.0))
    for within in (SHARE, NOT_NEGATIVE, CHANGE):
        assert np.concatenate(around(np.array([value]), np.array([error]), 2.0, within)) == pytest.approx(
            straight, abs=error * 1e-3
        )


@given(st.floats(0.01, 0.99), st.floats(0.001, 0.5), st.floats(0.5, 15))
@example(0.35156476716001267, 0.35156476716001267, 1.0)
def test_what_is_left_of_a_share_has_the_mirrored_interval(value: float, error: float, t: float) -> None:
    low, high = around(np.array([value]), np.array([error]), t, SHARE)
    other_low, other_high = around(np.array([1 - value]), np.array([error]), t, SHARE)
    assert (1 - other_high[0], 1 - other_low[0]) == pytest.approx((low[0], high[0]), abs=1e-9)


def test_a_correlation_has_the_interval_of_fishers_z() -> None:
    low, high = around(np.array([0.6]), np.array([0.1]), 3.0, CHANGE)
    reach = 3.0 * 0.1 / (1 - 0.6**2)
    assert (low[0], high[0]) == pytest.approx((np.tanh(np.arctanh(0.6) - reach), np.tanh(np.arctanh(0.6) + reach)))


def test_a_value_at_the_end_of_its_range_says_how_far_it_may_be_off() -> None:
    low, high = around(np.array([0.0, 1.0]), np.array([0.1, 0.1]), 3.0, SHARE)
    assert low == pytest.approx([0.0, 0.7])
    assert high == pytest.approx([0.3, 1.0])


def test_a_value_outside_its_range_shows_that_it_is_none() -> None:
    low, high = around(np.array([-0.2]), np.array([0.1]), 2.0, SHARE)
    assert low[0] < -0.2 < high[0]


def test_what_is_unknown_has_no_bounds() -> None:
    low, high = around(np.array([np.nan, 0.5]), np.array([0.1, np.nan]), 2.0, SHARE)
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_percentiles_of_linearised_replicates_are_cut_off_at_the_range() -> None:
    replicates = np.random.default_rng(0).normal(0.1, 0.2, (500, 1))
    low, high = interval(np.array([0.1]), replicates, np.array([20]), 0.95, SHARE)
    assert low[0] == 0.0
    assert 0.1 < high[0] < 1.0


@pytest.mark.parametrize("n", [2, 3, 5, 7])
@pytest.mark.parametrize(("a", "b"), [(8.0, 2.0), (40.0, 2.0), (1.0, 1.0)])
def test_intervals_of_shares_cover_the_truth_no_less_than_straight_ones(n: int, a: float, b: float) -> None:
    """A straight interval that leaves the range covers what lies beyond it, and loses at the other end."""
    values = np.random.default_rng(1).beta(a, b, (n, 4000))
    straight, bent = covered(values, a / (a + b), ANY), covered(values, a / (a + b), SHARE)
    assert 0.93 <= bent <= 0.975
    assert bent > straight - 0.002


@pytest.mark.parametrize(("n", "least"), [(2, 0.93), (3, 0.92), (5, 0.91), (7, 0.91)])
def test_intervals_of_skewed_divergences_cover_the_truth_more_often_than_straight_ones(n: int, least: float) -> None:
    values = np.random.default_rng(2).exponential(0.01, (n, 4000))
    straight, bent = covered(values, 0.01, ANY), covered(values, 0.01, NOT_NEGATIVE)
    assert least <= bent <= 0.97
    assert bent > straight + 0.02


def covered(values: np.ndarray, truth: float, within: Range) -> float:
    """How often 95 % intervals of independent studies [samples, studies] hold the truth."""
    n = len(values)
    low, high = around(values.mean(0), values.std(0, ddof=1) / np.sqrt(n), float(stdtrit(n - 1, 0.975)), within)
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("n", [2, 7, 8, 20])
def test_bounds_from_resamples_stay_within_the_range_at_any_number_of_samples(n: int) -> None:
    random = np.random.default_rng(n)
    weight = random.uniform(1, 5, (n, 200))
    top = random.beta(0.5, 0.2, (n, 200)) * weight
    value = ratio(top.sum(0), weight.sum(0))
    low, high = interval(value, bootstrap_ratios(top, weight, 200, 0), np.full(200, n), 0.95, SHARE)
    assert ((low >= 0) & (low <= value) & (value <= high) & (high <= 1)).all()
