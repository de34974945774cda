"""Claims about schedules of indexers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope.analysis.layer_sharing.schedule import METHODS, Schedule, schedule_losses, schedules, sources
from indexscope.analysis.statistics.resampling import Array


def lost(loss: Array, schedule: Schedule) -> float:
    """The definition, layer by layer."""
    total = 0.0
    for layer in range(len(loss)):
        source = max(kept for kept in schedule if kept <= layer)
        total += 0.0 if source == layer else loss[layer, source]
    return total


def best(loss: Array, count: int, own: list[bool]) -> float:
    """The smallest loss of all schedules that keep the first layer's indexer."""
    others = [layer for layer in range(1, len(loss)) if own[layer]]
    return min(lost(loss, (0, *rest)) for rest in combinations(others, count - 1))


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 10_000),
    st.integers(1, 8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.sampled_from([0, 0.3]),
)
def test_exact_schedules_are_the_best_of_all(seed: int, layers: int, own: list[bool], below: float) -> None:
    random = np.random.default_rng(seed)
    loss = random.random((layers, layers)) - below
    kept = [True, *own[1:layers]]
    found = schedules(loss, np.array(kept))
    for count in range(1, sum(kept) + 1):
        exact = found["exact"][count - 1]
        assert lost(loss, exact) == pytest.approx(best(loss, count, kept), abs=1e-12)
        for method in METHODS:
            schedule = found[method][count - 1]
            assert len(schedule) == count and schedule[0] == 0 and all(kept[layer] for layer in schedule)
            assert list(schedule) == sorted(set(schedule))
            assert lost(loss, exact) <= lost(loss, schedule) + 1e-12


def test_all_indexers_lose_nothing() -> None:
    loss = np.random.default_rng(0).random((6, 6))
    for schedule in (found[-1] for found in schedules(loss).values()):
        assert schedule == (0, 1, 2, 3, 4, 5)
        assert schedule_losses(loss, schedule).sum() == 0


def test_two_blocks_of_alike_layers_need_two_indexers() -> None:
    block = np.array([0, 0, 0, 1, 1])
    loss = (block[:, None] != block[None, :]).astype(float)
    found = schedules(loss)
    assert found["exact"][1] == found["greedy"][1] == (0, 3)
    assert schedule_losses(loss, (0, 3)).tolist() == [0] * 5
    assert found["even"][1] == (0, 2)
    assert schedule_losses(loss, (0, 2)).tolist() == [0, 0, 0, 1, 1]


def test_greedy_can_be_fooled_where_exact_is_not() -> None:
    # Taking away layer 1 costs least at first, but the best single step more needs its indexer.
    loss = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [9, 2, 0, 0], [9, 2, 2, 0]], dtype=float)
    found = schedules(loss)
    assert found["greedy"][1] == (0, 2) and lost(loss, (0, 2)) == 3
    assert lost(loss, found["exact"][1]) == 3
    loss[3, 2] = 5
    found = schedules(loss)
    assert lost(loss, found["exact"][1]) == 4 < lost(loss, found["greedy"][1]) == 6


def test_evenly_spaced_schedules_are_even() -> None:
    even = schedules(np.zeros((8, 8)))["even"]
    assert even[1] == (0, 4) and even[3] == (0, 2, 4, 6)


def test_layers_without_an_indexer_keep_using_an_earlier_one() -> None:
    assert sources((0, 2), 4).tolist() == [0, 0, 2, 2]
    found = schedules(np.ones((4, 4)), np.array([True, False, True, False]))
    assert found["exact"] == [(0,), (0, 2)]


def test_unknown_losses_and_a_missing_first_indexer_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        schedules(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="first layer"):
        schedules(np.zeros((2, 2)), np.array([False, True]))
    assert schedules(np.zeros((0, 0))) == {method: [] for method in METHODS}
