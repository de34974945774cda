"""The search over models of which the loss of every edit is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.baselines import added_up, chance, even, greedy
from indexscope.analysis.optimise.evaluations import Arm, Evaluations, Goal, Loss
from indexscope.analysis.optimise.search import Search
from indexscope.analysis.optimise.space import Choice, Point, Space
from indexscope.analysis.optimise.surrogate import Proposer
from tests.analysis.optimise.planted import Planted, arm_of, cost_of, searched, space_of, typical


def chosen(space: Space, arm: Arm) -> Point:
    assert arm.best is not None
    point = space.point(arm.best.edit)
    assert point is not None
    return point


def own(point: Point, place: int) -> Choice:
    found = point.choices[point.sources[place]]
    assert found is not None
    return found


def test_a_head_that_alone_carries_the_selection_stays_and_the_others_go() -> None:
    space = space_of(2)

    def loss(point: Point) -> float:
        missing = sum(1 not in one.heads for one in point.choices if one is not None)
        shared = sum(one is None for one in point.choices)
        halvings = sum(max(0.0, np.log2(64 / own(point, place).topk)) for place in range(2))
        return 0.5 * missing + 0.5 * shared + 0.5 * halvings

    found = chosen(space, searched(Planted(space, loss), cost_of(space)))
    assert [one.heads for one in found.choices if one is not None] == [(1,), (1,)]


def test_of_a_redundant_pair_of_heads_one_goes_and_one_stays() -> None:
    space = space_of(2)

    def loss(point: Point) -> float:
        # Heads 2 and 3 of layer 0 say the same; all else is needed.
        first, second = point.choices
        if first is None or second is None:
            return 0.5
        kept = set(first.heads)
        needed = 0.5 * len({0, 1} - kept) + 0.5 * (not kept & {2, 3}) + 0.5 * (4 - len(second.heads))
        return needed + 0.5 * max(0.0, np.log2(64 / first.topk)) + 0.5 * max(0.0, np.log2(64 / second.topk))

    found = chosen(space, searched(Planted(space, loss), cost_of(space)))
    assert found.choices[0] is not None and found.choices[1] is not None
    assert len(found.choices[0].heads) == 3 and {0, 1} <= set(found.choices[0].heads)
    assert len(found.choices[1].heads) == 4


def test_a_layer_that_needs_96_keys_gets_them_and_the_others_pay() -> None:
    space = space_of(4)

    def loss(point: Point) -> float:
        # Layer 2 of a model of k = 64 lacks keys: with 96 it wins what the smaller k of others lose.
        total = 0.0
        for place in range(4):
            if point.choices[place] is None:
                return 0.5
            k = own(point, place).topk
            total += 0.5 * (4 - len(own(point, place).heads))
            if place == 2:
                total += -0.02 if k >= 96 else 0.0 if k >= 64 else 0.5
            else:
                total += 0.004 * max(0.0, np.log2(64 / k))
        return total

    found = chosen(space, searched(Planted(space, loss), cost_of(space), max_loss=0.0))
    assert own(found, 2).topk == 96
    assert all(own(found, place).topk < 32 for place in (0, 1, 3))


def test_two_changes_harmless_alone_and_harmful_together_mislead_the_sum_and_not_the_search() -> None:
    space = space_of(6)

    def loss(point: Point) -> float:
        shared = [place for place, one in enumerate(point.choices) if one is None]
        together = sum(later == earlier + 1 for earlier, later in pairwise(shared))
        halvings = sum(max(0.0, np.log2(64 / own(point, place).topk)) for place in range(6))
        heads = sum(4 - len(one.heads) for one in point.choices if one is not None)
        return 0.0002 * len(shared) + 0.1 * together + 0.05 * halvings + 0.05 * heads

    cost = cost_of(space)
    planted = Planted(space, loss, noise=0.05)
    arm = searched(planted, cost, budget=20)
    assert chosen(space, arm).choices[1::2] == (None,) * 3, "every other layer shares"
    singles = arm_of(planted, cost)
    measured = [(point, singles.run(space.edit(point), 32, "single")) for point in space.singles()]
    summed, total = space.origin, 0.0
    order = sorted(measured, key=lambda pair: -(1 - pair[1].cost) / max(pair[1].loss.mean, 1e-9))
    for edit, (_, one) in zip(added_up(space, measured), order, strict=False):
        total += one.loss.mean
        if total > 0.005:
            break
        summed = space.point(edit) or summed
    assert sum(one is None for one in summed.choices) == 5, "the sum takes all"
    assert loss(summed) > 0.3
    best = arm.best
    assert best is not None and best.cost < min(
        found.cost for found in (greedy(space, arm_of(planted, cost)),) if found is not None
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_at_equal_evaluations_the_search_beats_greedy_even_and_chance(seed: int) -> None:
    space = space_of(6)
    cost, planted = cost_of(space), Planted(space, typical(space, seed))
    best = searched(planted, cost, seed).best
    assert best is not None
    arms = [arm_of(planted, cost) for _ in range(3)]
    others = [greedy(space, arms[0]), even(space, arms[1]), chance(space, arms[2])]
    assert all(arm.budget == 40 for arm in arms)
    for other in others:
        assert other is not None and best.cost < other.cost


def test_a_search_over_known_evaluations_takes_the_same_way_without_running_anything() -> None:
    space = space_of(4)
    cost = cost_of(space)
    kept: dict[tuple[Edit, int], Loss] = {}

    def search(known: dict[tuple[Edit, int], Loss], stop_after: int = 10**9) -> tuple[Arm, Planted]:
        planted, heard = Planted(space, typical(space)), [0]

        def hear(edit: Edit, sample: int, loss: Loss) -> None:
            kept[edit, sample] = loss
            heard[0] += 1
            if heard[0] == stop_after:
                raise KeyboardInterrupt

        evaluations = Evaluations(planted, known, hear)
        arm = Arm(evaluations, range(16), Goal(0.005, cost.relative), 20)
        Search(space, Proposer(space, cost), arm).run()
        return arm, planted

    whole, planted = search({})
    first, known = planted.runs, dict(kept)
    kept.clear()
    with pytest.raises(KeyboardInterrupt):
        search({}, stop_after=137)
    assert len(kept) == 137
    resumed, rest = search(dict(kept))
    assert rest.runs == first - 137
    assert list(resumed.tried.items()) == list(whole.tried.items())
    again, none = search(known)
    assert none.runs == 0
    assert again.front == whole.front


def test_no_budget_is_exceeded() -> None:
    space = space_of(3)
    cost, planted = cost_of(space), Planted(space, typical(space))
    arm = searched(planted, cost, budget=7, samples=20)
    assert planted.runs <= 7 * 20
    assert 6 < arm.spent <= 7


def test_a_start_of_another_space_is_left_out_and_a_good_one_is_taken() -> None:
    space = space_of(3)
    cost = cost_of(space)
    arm = arm_of(Planted(space, lambda point: 0.0), cost)
    shared = Edit(share="FSS")
    Search(space, Proposer(space, cost), arm).run([Edit(indexer_heads={7: (0,)}), shared])
    assert arm.tried[shared].origin == "recommended"
    assert Edit(indexer_heads={7: (0,)}) not in arm.tried
    assert arm.best is not None
    point = space.point(arm.best.edit)
    assert point == Point((Choice(point.choices[0].heads, 8), None, None)) and len(point.choices[0].heads) == 1  # type: ignore[union-attr]


def test_a_cost_that_is_measured_is_measured_of_what_is_run_alone() -> None:
    space = space_of(3)
    cost, measured = cost_of(space), set[Edit]()

    def clock(edit: Edit) -> float:
        measured.add(edit)
        return cost.relative(edit)

    arm = Arm(Evaluations(Planted(space, typical(space))), range(16), Goal(0.005, clock), 12)
    Search(space, Proposer(space, cost), arm).run()
    assert measured == arm.tried.keys()
