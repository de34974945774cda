"""Claims about ratio estimators and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from indexscope.analysis.statistics.resampling import (
    FEWEST_FOR_PERCENTILES,
    bootstrap_ratios,
    interval,
    ratio,
    resample_counts,
    weighted_mean,
)


def test_a_mean_of_nothing_is_unknown_and_not_zero() -> None:
    assert np.isnan(weighted_mean([], []))
    assert np.isnan(weighted_mean([1.0], [0.0]))
    assert np.isnan(ratio(0.0, 0.0))


def test_unknown_values_take_their_weight_with_them() -> None:
    assert weighted_mean([1.0, np.nan, 3.0], [1.0, 100.0, 1.0]) == 2.0


def test_every_resample_draws_as_many_samples_as_there_are() -> None:
    counts = np.concatenate(list(resample_counts(13, 200, seed=1)))
    assert counts.shape == (200, 13)
    assert (counts.sum(axis=1) == 13).all()


def test_resamples_depend_on_the_seed_alone() -> None:
    first, again, other = (np.concatenate(list(resample_counts(9, 50, seed))) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_vectorised_bootstrap_equals_a_loop_over_resamples() -> None:
    random = np.random.default_rng(0)
    top, bottom = random.random((7, 3)), random.random((7, 3))
    fast = bootstrap_ratios(top, bottom, 40, seed=5)
    counts = np.concatenate(list(resample_counts(7, 40, seed=5)))
    for row, drawn in zip(fast, counts, strict=True):
        samples = np.repeat(np.arange(7), drawn.astype(int))
        assert row == pytest.approx(top[samples].sum(axis=0) / bottom[samples].sum(axis=0))


def test_resamples_in_blocks_are_of_the_right_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexscope.analysis.statistics.resampling._DRAWS_AT_ONCE", 30)
    monkeypatch.setattr("indexscope.analysis.statistics.resampling._KEPT", 0)
    counts = list(resample_counts(10, 25, seed=0))
    assert [len(block) for block in counts] == [3] * 8 + [1]


def test_one_sample_has_no_interval() -> None:
    top, bottom = np.array([[2.0]]), np.array([[4.0]])
    low, high = interval(np.array([0.5]), bootstrap_ratios(top, bottom, 50, 0), np.array([1]), 0.95)
    assert np.isnan(low[0])
    assert np.isnan(high[0])


def test_identical_samples_have_an_interval_of_no_width() -> None:
    for n in (3, 20):
        top, bottom = np.full((n, 1), 2.0), np.full((n, 1), 4.0)
        low, high = interval(np.array([0.5]), bootstrap_ratios(top, bottom, 50, 0), np.array([n]), 0.95)
        assert low[0] == high[0] == 0.5


@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_intervals_cover_the_truth_about_as_often_as_they_say(n: int) -> None:
    """A ratio of sums with a skewed numerator: 95 % intervals hold the true 2 in 90 to 99 % of studies."""
    random = np.random.default_rng(7)
    studies = 400
    weight = random.integers(20, 60, (n, studies)).astype(float)
    value = random.gamma(4.0, 0.5, (n, studies))  # mean 2, skewness 1
    low, high = np.empty(studies), np.empty(studies)
    for study in range(studies):
        top, bottom = (value * weight)[:, [study]], weight[:, [study]]
        replicates = bootstrap_ratios(top, bottom, 300, seed=study)
        estimate = ratio(top.sum(axis=0), bottom.sum(axis=0))
        low[[study]], high[[study]] = interval(estimate, replicates, np.array([n]), 0.95)
    covered = ((low <= 2.0) & (high >= 2.0)).mean()
    assert 0.90 <= covered <= 0.99


def test_two_samples_admit_how_little_they_know() -> None:
    """The plain bootstrap of two values would claim 95 % for an interval between them, which covers 50 %."""
    assert FEWEST_FOR_PERCENTILES > 2
    random = np.random.default_rng(0)
    covered = []
    for study in range(300):
        top = random.normal(1.0, 1.0, (2, 1))
        replicates = bootstrap_ratios(top, np.ones((2, 1)), 200, seed=study)
        low, high = interval(top.mean(axis=0), replicates, np.array([2]), 0.95)
        covered.append(low[0] <= 1.0 <= high[0])
    assert np.mean(covered) > 0.9


@given(
    arrays.arrays(np.float64, (9, 2), elements=st.floats(-5, 5)),
    arrays.arrays(np.float64, (9, 2), elements=st.floats(0.1, 3)),
)
def test_bounds_are_ordered_and_within_the_resamples(top: np.ndarray, bottom: np.ndarray) -> None:
    replicates = bootstrap_ratios(top, bottom, 60, seed=0)
    low, high = interval(ratio(top.sum(axis=0), bottom.sum(axis=0)), replicates, np.array([9, 9]), 0.9)
    assert (low <= high).all()
    assert (low >= replicates.min(axis=0)).all()
    assert (high <= replicates.max(axis=0)).all()


def test_resamples_without_weight_are_left_out() -> None:
    """Two of nine samples have weight: some resamples draw neither, and say nothing."""
    top, bottom = np.zeros((9, 1)), np.zeros((9, 1))
    bottom[:2], top[:2] = 1.0, [[1.0], [3.0]]
    replicates = bootstrap_ratios(top, bottom, 400, seed=0)
    assert np.isnan(replicates).any()
    low, high = interval(np.array([2.0]), replicates, np.array([2]), 0.95)
    assert low[0] < 1.0
    assert high[0] > 3.0


def test_resamples_that_are_kept_are_those_that_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = np.concatenate(list(resample_counts(10, 25, seed=0)))
    monkeypatch.setattr("indexscope.analysis.statistics.resampling._KEPT", 0)
    assert (kept == np.concatenate(list(resample_counts(10, 25, seed=0)))).all()
