"""What held-out samples say of what a search found."""

from __future__ import annotations

import numpy as np
import pytest

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Estimate, Goal, Loss, Tried, estimate
from indexscope.analysis.optimise.validation import MOST, by_position, candidates, interval_of, validated
from indexscope.analysis.settings import BootstrapSettings

SETTINGS = BootstrapSettings(resamples=400)
EDITS = [Edit(topk={0: k}) for k in (40, 30, 20, 10)]


def losses(mean: float, spread: float, n: int, random: np.random.Generator) -> list[Loss]:
    return [Loss((100 * float(value),), (100.0,)) for value in random.normal(mean, spread, n)]


def test_an_estimate_is_the_weighted_mean_with_its_error_over_samples() -> None:
    found = estimate([Loss((1.0, 2.0), (1.0, 1.0)), Loss((9.0,), (3.0,)), Loss((0.0,), (1.0,))])
    assert found.mean == 12 / 6
    residual = np.array([3 - 2 * 2, 9 - 2 * 3, 0 - 2 * 1])
    assert found.error == pytest.approx(np.sqrt(3 / 2 * (residual**2).sum()) / 6)
    assert estimate([Loss((1.0,), (2.0,))]).bound(0.95) == np.inf


def test_equal_weights_give_the_t_interval_of_a_mean() -> None:
    values = np.random.default_rng(0).normal(3, 1, 12)
    found = estimate([Loss((float(value),), (1.0,)) for value in values])
    from scipy import stats

    low, high = stats.t.interval(0.95, 11, values.mean(), values.std(ddof=1) / 12**0.5)
    assert found.bound(0.95) == pytest.approx(high) and found.bound(0.95, -1) == pytest.approx(low)


def test_tests_end_with_the_first_that_fails() -> None:
    random = np.random.default_rng(0)
    tests = [(edit, losses(mean, 0.001, 24, random)) for edit, mean in zip(EDITS, (0.0, 0.1, 0.0, 0.0), strict=True)]
    assert [one.holds for one in validated(tests, 0.005, SETTINGS)] == [True, False, False, False]


def test_with_losses_at_the_bound_one_search_in_forty_claims_anything() -> None:
    # The bound itself is the hardest case: every claim is false. The upper end of a 95 % interval errs in 2.5 %.
    random, false, runs = np.random.default_rng(1), 0, 600
    for _ in range(runs):
        shared = random.normal(0.005, 0.01, 24)
        values = [(edit, shared + random.normal(0, 0.01, 24)) for edit in EDITS]
        tests = [(edit, [Loss((float(one),), (1.0,)) for one in own]) for edit, own in values]
        false += any(one.holds for one in validated(tests, 0.005, SETTINGS))
    assert 0.01 <= false / runs <= 0.045


def test_taking_the_best_on_the_samples_that_chose_it_errs_far_more_often() -> None:
    # The winner's curse: of twenty that lose 0.005, the one that looks best on 24 samples looks better than it is.
    random, cursed, runs = np.random.default_rng(2), 0, 200
    for _ in range(runs):
        best = min((losses(0.005, 0.01, 24, random) for _ in range(20)), key=lambda one: estimate(one).mean)
        cursed += estimate(best).bound(0.95) <= 0.005
    assert cursed / runs > 0.25


def test_candidates_are_tested_from_the_safest_to_the_cheapest() -> None:
    goal = Goal(0.005, lambda edit: 0.0)
    front = [
        Tried(Edit(topk={0: 1 + place}), 0.1 * place, Estimate(0.006 - 0.001 * place, 0.0, 32), True, "proposed")
        for place in range(8)
    ]
    chain = candidates(front, goal)
    assert len(chain) == MOST
    assert [one.cost for one in chain] == sorted((one.cost for one in chain), reverse=True)
    assert chain[-1].cost == pytest.approx(0.1), "the cheapest within the bound is the last"
    assert candidates(front[:1], goal) == []


def test_positions_have_intervals_of_their_own_and_empty_ones_are_left_out() -> None:
    found = by_position([Loss((0.0, 1.0, 4.0), (0.0, 1.0, 2.0)), Loss((0.0, 3.0), (0.0, 1.0))] * 8, SETTINGS)
    assert {bucket: (one.mean, one.samples) for bucket, one in found.items()} == {1: (2.0, 16), 2: (2.0, 8)}
    assert found[1].low < 2.0 < found[1].high
    whole = interval_of([Loss((1.0,), (1.0,)), Loss((3.0,), (1.0,))] * 8, SETTINGS)
    assert (whole.mean, whole.samples) == (2.0, 16)
