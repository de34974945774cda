"""Places at which the level of a series changes: planted ones, none where there is none, and how sure they are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from indexscope.analysis.statistics.resampling import Array
from indexscope.analysis.statistics.segmentation import (
    FEWEST,
    SHORTEST,
    change_points,
    noise_variance,
    penalty_for,
    places_in_resamples,
)


def squares(values: Array, places: tuple[int, ...]) -> float:
    return sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(values, list(places)))


def cuts(length: int, changes: int) -> list[tuple[int, ...]]:
    """All ways to cut a series into that many stretches and one more, each long enough."""
    found = combinations(range(1, length), changes)
    return [one for one in found if min(np.diff([0, *one, length])) >= SHORTEST]


def certain(values: Array) -> Array:
    """Resamples of a series whose values are certain: all noise is its own."""
    return np.tile(values, (20, 1))


def found(values: Array, replicates: Array | None = None) -> list[int]:
    return change_points(values, noise_variance(values, certain(values) if replicates is None else replicates))


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_best_of_all_cuts(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=10).cumsum()
    variance = 0.5
    penalty = penalty_for(10) * variance
    all_cuts = [one for changes in range(5) for one in cuts(10, changes)]
    best = min(all_cuts, key=lambda one: squares(values, one) + penalty * len(one))
    assert change_points(values, variance) == list(best)


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_every_resample_is_cut_best_into_as_many_stretches(changes: int) -> None:
    replicates = np.random.default_rng(changes).normal(size=(30, 11)).cumsum(axis=1)
    places = places_in_resamples(replicates, changes)
    for values, own in zip(replicates, places, strict=True):
        best = min(cuts(11, changes), key=lambda one: squares(values, one))
        assert tuple(own) == best


def test_planted_changes_are_found_where_they_are() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        values = np.repeat([0.3, 0.7, 0.6], [8, 12, 10]) + 0.01 * random.normal(size=30)
        assert found(values) == [8, 20]


@pytest.mark.parametrize("length", [FEWEST, 8, 12, 25, 50])
def test_noise_has_a_change_in_at_most_one_case_of_twenty(length: int) -> None:
    random = np.random.default_rng(length)
    false = sum(bool(found(random.normal(size=length))) for _ in range(400))
    assert false <= 20


def test_values_that_are_uncertain_by_more_than_their_difference_have_no_change() -> None:
    random = np.random.default_rng(1)
    values = np.repeat([0.0, 1.0], [5, 5])
    assert found(values) == [5]
    assert found(values, values + random.normal(scale=2.0, size=(200, 10))) == []


def test_what_all_values_share_is_no_noise() -> None:
    random = np.random.default_rng(2)
    values = np.repeat([0.0, 1.0], [5, 5])
    assert found(values, values + random.normal(scale=5.0, size=(200, 1))) == [5]


def test_one_clear_change_is_found_as_soon_as_any_is_looked_for() -> None:
    for place in range(SHORTEST, FEWEST - SHORTEST + 1):
        values = np.repeat([0.0, 1.0], [place, FEWEST - place])
        assert found(values) == [place]


def test_equal_values_and_few_values_have_no_change() -> None:
    assert found(np.full(20, 0.25)) == []
    assert found(np.array([0.0, 0.0, 0.0, 1.0, 1.0])[: FEWEST - 1]) == []


def test_a_steady_drift_is_cut_but_a_single_outlier_is_not() -> None:
    random = np.random.default_rng(3)
    outlier = 0.01 * random.normal(size=20)
    outlier[7] += 0.03
    assert found(outlier) == []
    assert len(found(np.linspace(0, 1, 20) + 0.001 * random.normal(size=20))) > 2


def test_the_interval_of_a_place_covers_it() -> None:
    """Samples differ, and so does what each shows of the change; the place is among the resamples' 95 %."""
    random = np.random.default_rng(4)
    covered = 0
    for _ in range(100):
        values = np.repeat([0.0, 1.0], [10, 10]) + random.normal(scale=3.0, size=(40, 20))
        drawn = np.stack([values[random.integers(0, 40, 40)].mean(axis=0) for _ in range(100)])
        places = places_in_resamples(drawn, 1)[:, 0]
        low, high = np.quantile(places, [0.025, 0.975])
        covered += bool(low <= 10 <= high)
    assert covered >= 90
