"""What the search has to beat: single losses added up, the same everywhere, and chance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Arm, Spent, Tried
from indexscope.analysis.optimise.space import PARTS, Choice, Point, Space, spaced

GREEDY, EVEN, RANDOM = "greedy", "evenly spaced", "random"


def greedy(space: Space, arm: Arm) -> Tried | None:
    """Single losses added up: changes are taken by saving per loss, until together they lose as much as is allowed.

    What is left of the budget goes into running prefixes of that order, to find the longest within the bound: the sum
    is not taken at its word.

    Returns:
        The cheapest within the bound.
    """
    try:
        singles = list(space.singles(budgets=True))
        room = max(4, int(0.6 * arm.budget * len(arm.samples) / arm.rungs[0]))
        if len(singles) > room:
            singles = [singles[place * len(singles) // room] for place in range(room)]
        found = [(point, arm.run(space.edit(point), arm.rungs[0], GREEDY)) for point in singles]
        _longest(arm, added_up(space, found), GREEDY)
    except Spent:
        pass
    return arm.best


def added_up(space: Space, singles: Sequence[tuple[Point, Tried]]) -> list[Edit]:
    """Edits of one change, two, three and so on, in the order of saving per loss of each on its own."""
    order = sorted(singles, key=lambda pair: -(1 - pair[1].cost) / max(pair[1].loss.mean, 1e-9))
    point, found = space.origin, list[Edit]()
    for change, _ in order:
        merged = _merged(space, point, change)
        if merged is not None:
            point = merged
            found.append(space.edit(point))
    return found


def _merged(space: Space, point: Point, change: Point) -> Point | None:
    """A point with one change more; None where that changes nothing."""
    choices = list(point.choices)
    for place, (old, new) in enumerate(zip(point.choices, change.choices, strict=True)):
        full = space.full(place)
        if new == full or old is None:
            continue
        if new is None:
            choices[place] = None
            continue
        heads = tuple(head for head in old.heads if head in new.heads)
        choices[place] = Choice(heads or old.heads, min(old.topk, new.topk))
    made = Point(tuple(choices), change.precision or point.precision)
    return None if made == point else made


def _longest(arm: Arm, chain: Sequence[Edit], origin: str) -> None:
    """Bisect a chain of ever cheaper edits for the last within the bound, then try those around it."""
    low, high = -1, len(chain)
    while high - low > 1:
        middle = (low + high) // 2
        if arm.within(arm.race(chain[middle], origin)):
            low = middle
        else:
            high = middle
    for place in sorted(range(len(chain)), key=lambda place: abs(place - low)):
        if place > low:
            arm.race(chain[place], origin)


def even(space: Space, arm: Arm) -> Tried | None:
    """The same everywhere: sharing evenly spaced, the first heads and a smaller k of all layers.

    Returns:
        The cheapest within the bound.
    """
    heads = max((layer.heads for layer in space.layers), default=1)
    counts = sorted({max(1, heads * part // 4) for part in (4, 3, 2, 1)}, reverse=True)
    try:
        for chain in _interleaved(
            [
                [spaced(space, period, count, part) for part in sorted(PARTS, reverse=True) if part <= 1]
                for period in range(1, len(space.layers) + 1)
                for count in counts
            ]
        ):
            cheaper = [space.edit(point) for point in chain]
            best = arm.best
            if best is not None:
                cheaper = [edit for edit in cheaper if arm.goal.cost(edit) < best.cost]
            _first_within(arm, cheaper)
    except Spent:
        pass
    return arm.best


def _first_within(arm: Arm, chain: Sequence[Edit]) -> None:
    """Step down a chain of ever cheaper edits while they are within the bound."""
    for edit in chain:
        if not edit.changes_nothing and not arm.within(arm.race(edit, EVEN)):
            return


def _interleaved(chains: Sequence[Sequence[Point]]) -> Iterable[Sequence[Point]]:
    """From both ends, since neither the mildest nor the boldest are known to be best."""
    left, right = 0, len(chains) - 1
    while left <= right:
        yield chains[left]
        if left < right:
            yield chains[right]
        left, right = left + 1, right - 1


def chance(space: Space, arm: Arm, seed: int = 0) -> Tried | None:
    """Random edits: a share of the layers, itself random, is changed at random.

    Returns:
        The cheapest within the bound.
    """
    random = np.random.default_rng(seed)
    try:
        idle = 0
        while idle < 200:
            edit = space.edit(drawn(space, random))
            if edit in arm.tried or edit.changes_nothing:
                idle += 1
                continue
            idle = 0
            arm.race(edit, RANDOM)
    except Spent:
        pass
    return arm.best


def drawn(space: Space, random: np.random.Generator) -> Point:
    """A random point."""
    rate = random.random()
    choices: list[Choice | None] = []
    for place, layer in enumerate(space.layers):
        full = space.full(place)
        shares, other_k, fewer = random.random(3) < rate
        k = int(random.choice([k for k in layer.budgets if k <= layer.topk])) if other_k else layer.topk
        count = int(random.integers(1, layer.heads + 1)) if fewer else layer.heads
        heads = tuple(sorted(random.permutation(layer.heads)[:count].tolist()))
        choices.append(None if shares and place and random.random() < 0.5 else full._replace(heads=heads, topk=k))
    known = (None, *space.precisions)
    return Point(tuple(choices), known[int(random.integers(len(known)))])
