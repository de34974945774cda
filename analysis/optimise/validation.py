"""Whether what a search found holds on samples that it has not seen.

The best of many is best partly by luck (the winner's curse), so its loss on the samples that chose it says little. The
candidates, fixed by the search, are tested on held-out samples in a fixed order, from the one that loses least to the
cheapest, each at the full level, until the first that fails; those before it hold together with the confidence of one
(fixed-sequence testing: Maurer, Hothorn & Lehmacher 1995; Westfall & Krishen 2001, "Optimally weighted, fixed sequence
and gatekeeper multiple testing procedures"). Nothing has to be divided by the number of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexscope.analysis.edits.edit import Edit
from indexscope.analysis.optimise.evaluations import Goal, Loss, Tried, sums_of
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import bootstrap_ratios, interval, ratio

#: Candidates at most; a longer sequence is likelier to end before its last.
MOST = 4
#: Samples from which on a bound is taken for one.
FEWEST = 4


@dataclass(frozen=True)
class Interval:
    """A mean loss with its confidence interval.

    Attributes:
        mean: Σ loss / Σ weight.
        low: Lower end.
        high: Upper end.
        samples: Samples with weight behind it.
    """

    mean: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True)
class Held:
    """An edit on held-out samples.

    Attributes:
        edit: The edit.
        loss: Over all positions.
        by_position: By position bucket; those without queries are left out.
        holds: Whether it is within the bound, as the sequence of tests has it.
    """

    edit: Edit
    loss: Interval
    by_position: dict[int, Interval]
    holds: bool


def candidates(tried: Sequence[Tried], goal: Goal) -> list[Tried]:
    """What is tested, in the order of the tests: the least bound first, the cheapest last.

    Args:
        tried: What ran on all calibration samples.
        goal: What is looked for.

    Returns:
        At most `MOST`, all within the bound on calibration samples, each cheaper than the one before it.
    """
    bound = {one.edit: one.loss.bound(goal.confidence) for one in tried}
    kept: list[Tried] = []
    for one in sorted(tried, key=lambda one: (one.cost, bound[one.edit])):
        if bound[one.edit] <= goal.max_loss and (not kept or bound[one.edit] < bound[kept[-1].edit]):
            kept.append(one)
    if len(kept) > MOST:
        # The cheapest, and others whose bounds lie evenly below its own.
        ends = np.linspace(bound[kept[0].edit], bound[kept[-1].edit], MOST)
        chosen = {min(range(len(kept)), key=lambda place: abs(bound[kept[place].edit] - end)) for end in ends}
        kept = [kept[place] for place in sorted(chosen)]
    return kept[::-1]


def interval_of(losses: Sequence[Loss], settings: BootstrapSettings) -> Interval:
    """The mean loss with its bootstrap interval over samples."""
    sums, weights = sums_of(losses)
    return _intervals(sums.sum(axis=1, keepdims=True), weights.sum(axis=1, keepdims=True), settings)[0]


def by_position(losses: Sequence[Loss], settings: BootstrapSettings) -> dict[int, Interval]:
    """The same by position bucket."""
    found = _intervals(*sums_of(losses), settings)
    return {bucket: one for bucket, one in enumerate(found) if one.samples}


def _intervals(
    sums: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    settings: BootstrapSettings,
) -> list[Interval]:
    mean, n = ratio(sums.sum(axis=0), weights.sum(axis=0)), (weights > 0).sum(axis=0).astype(np.int64)
    replicates = bootstrap_ratios(sums, weights, settings.resamples, settings.seed)
    low, high = interval(mean, replicates, n, settings.confidence)
    ends = zip(mean.tolist(), low.tolist(), high.tolist(), n.tolist(), strict=True)
    return [Interval(own, least, most, size) for own, least, most, size in ends]


def validated(tests: Sequence[tuple[Edit, Sequence[Loss]]], max_loss: float, settings: BootstrapSettings) -> list[Held]:
    """Test edits one after the other.

    Args:
        tests: Edits in the order of the tests, with their losses on held-out samples.
        max_loss: The bound.
        settings: The bootstrap; the upper end of its interval is held against the bound.

    Returns:
        All of them; those up to the first that fails hold.
    """
    found, passing = [], True
    for edit, losses in tests:
        loss = interval_of(losses, settings)
        passing = passing and loss.samples >= FEWEST and loss.high <= max_loss
        found.append(Held(edit, loss, by_position(losses, settings), passing))
    return found
