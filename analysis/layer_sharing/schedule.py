"""Which layers should keep an indexer of their own: exactly, greedily, and evenly spaced."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.statistics.resampling import Array

Schedule = tuple[int, ...]
"""Places of the layers with an indexer of their own, ascending, from 0; each other uses the last of them before it."""

METHODS = ("exact", "greedy", "even")


def schedules(loss: Array, own: NDArray[np.bool_] | None = None) -> dict[str, list[Schedule]]:
    """Schedules for every number of indexers, by each method.

    exact has the smallest loss of all schedules of that many indexers, by dynamic programming over (last layer with an
    indexer, indexers so far) in O(L^3). greedy takes away, one after the other, the indexer whose loss raises the sum
    least, as IndexCache's search does (Bai et al. 2026, arXiv 2603.12201, there with the language-modelling loss).
    even keeps layers floor(i C / m) of the C that could, i = 0 .. m - 1, whatever the loss.

    Args:
        loss: loss[l, s] is what layer l loses with the selection of layer s < l, [L, L]; the diagonal counts as 0, and
            what is above it is not looked at. Losses may be negative.
        own: Layers that have an indexer to keep, [L]; all by default. The first layer must be one of them.

    Returns:
        For each method the schedules of 1, 2, .. indexers, up to all that there are.

    Raises:
        ValueError: The loss is not square or not known, or the first layer has no indexer.
    """
    size = len(loss)
    kept = np.ones(size, dtype=bool) if own is None else np.asarray(own, dtype=bool)
    if loss.shape != (size, size) or len(kept) != size:
        raise ValueError("the loss must be known for every layer and every source, [L, L]")
    if size == 0:
        return {method: [] for method in METHODS}
    lower = np.where(np.tri(size, k=-1, dtype=bool), loss, 0.0)
    if not np.isfinite(lower).all():
        raise ValueError("the loss must be finite for every source before its layer")
    if not kept[0]:
        raise ValueError("the first layer must have an indexer of its own")
    candidates = np.flatnonzero(kept)
    return {
        "exact": _exact(lower, candidates),
        "greedy": _greedy(lower, candidates),
        "even": [_even(candidates, count) for count in range(1, len(candidates) + 1)],
    }


def sources(schedule: Schedule, layers: int) -> NDArray[np.int64]:
    """Whose selection each layer uses under a schedule, [layers].

    >>> sources((0, 3), 5).tolist()
    [0, 0, 0, 3, 3]
    """
    return np.asarray(np.array(schedule)[np.searchsorted(schedule, np.arange(layers), side="right") - 1])


def schedule_losses(loss: Array, schedule: Schedule) -> Array:
    """What each layer loses under a schedule, [L]; exactly 0 where it keeps its indexer."""
    used = sources(schedule, len(loss))
    layers = np.arange(len(loss))
    return np.where(used == layers, 0.0, loss[layers, used])


def _exact(lower: Array, candidates: NDArray[np.int64]) -> list[Schedule]:
    size, count = len(lower), len(candidates)
    # span[e, i]: loss of layers candidates[i] .. e - 1, all of which use candidates[i].
    below = np.concatenate([np.zeros((1, count)), np.cumsum(lower[:, candidates], axis=0)])
    span = below - below[candidates, np.arange(count)]
    best = np.full((count + 1, count), np.inf)  # by indexers so far and the last of them, up to where that begins
    back = np.zeros((count + 1, count), dtype=np.int64)
    best[1, 0] = 0.0
    for used in range(2, count + 1):
        reached = best[used - 1][None, :] + span[candidates]
        reached[np.triu_indices(count)] = np.inf
        back[used] = reached.argmin(axis=1)
        best[used] = reached.min(axis=1)
    found = []
    for used in range(1, count + 1):
        last = int((best[used] + span[size]).argmin())
        chain = [last]
        for step in range(used, 1, -1):
            chain.append(int(back[step, chain[-1]]))
        found.append(tuple(int(candidates[place]) for place in reversed(chain)))
    return found


def _greedy(lower: Array, candidates: NDArray[np.int64]) -> list[Schedule]:
    kept: Schedule = tuple(int(layer) for layer in candidates)
    found = [kept]
    while len(kept) > 1:
        fewer = [kept[:place] + kept[place + 1 :] for place in range(1, len(kept))]
        kept = min(fewer, key=lambda schedule: float(schedule_losses(lower, schedule).sum()))
        found.append(kept)
    return found[::-1]


def _even(candidates: NDArray[np.int64], count: int) -> Schedule:
    return tuple(int(layer) for layer in candidates[np.arange(count) * len(candidates) // count])
