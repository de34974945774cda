"""Passes over the scores of single indexer heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact, kernel
from indexscope.analysis.features.sketch import BINS, KEPT_BITS

MOMENTS = 6
_DROPPED = 32 - KEPT_BITS


@exact
def count_scores(
    scores: NDArray[np.float32],
    bits: NDArray[np.int32],
    group: NDArray[np.int8],
    weight: NDArray[np.float64],
    moments: NDArray[np.float64],
    codes: NDArray[np.int64],
    counts: NDArray[np.float64],
) -> int:
    """Moments of every head's scores by group, and how many scores have the same leading bits.

    Args:
        scores: [B, J, K].
        bits: The same memory as integers.
        group: Group of each key, or one beyond the last for keys that do not count, [B, K].
        weight: How often the scores of each query count, [B].
        moments: Count, sum, sum of squares, minimum, maximum and zeros, [J, groups, 6]; minima and maxima start at the
            infinities, all else at 0.
        codes: For what is filled, ascending: (head x groups + group) x BINS + bin, [B J K].
        counts: Scores in it, same length.

    Returns:
        How many bins are filled.
    """
    batch, heads, keys = scores.shape
    groups = moments.shape[1]
    tally = np.zeros(BINS)
    filled = 0
    for j in range(heads):
        for g in range(groups):
            first, found = filled, moments[j, g]
            for b in range(batch):
                times = weight[b]
                for s in range(keys):
                    if group[b, s] != g:
                        continue
                    value = np.float64(scores[b, j, s])
                    found[0] += times
                    found[1] += times * value
                    found[2] += times * value * value
                    found[3] = min(found[3], value)
                    found[4] = max(found[4], value)
                    if value == 0.0:
                        found[5] += times
                    place = (bits[b, j, s] >> _DROPPED) & (BINS - 1)
                    if tally[place] == 0.0 and times > 0.0:
                        codes[filled] = place
                        filled += 1
                    tally[place] += times
            codes[first:filled].sort()
            for i in range(first, filled):
                place = codes[i]
                counts[i] = tally[place]
                tally[place] = 0.0
                codes[i] = (j * groups + g) * BINS + place
    return filled


@kernel
def place_selections(
    own: NDArray[np.float64],
    up: NDArray[np.bool_],
    query: NDArray[np.int64],
    weight: NDArray[np.float64],
    chance: NDArray[np.float64],
    distance: NDArray[np.float64],
    relative: NDArray[np.float64],
) -> None:
    """Add the selections of every head, and in the last row those of a random selector, to the bins of both axes.

    The bins are those of `indexscope.analysis.features.positions`.

    Args:
        own: Inclusion in each head's own top k, [B, J, K].
        up: Keys that were up for selection, [B, K].
        query: Positions of the queries, [B].
        weight: How many queries each stands for, [B].
        chance: Share of its keys that a query selects, [B].
        distance: By distance, [J + 1, bins].
        relative: By relative position, [J + 1, bins].
    """
    batch, heads, keys = own.shape
    tenths = relative.shape[1]
    near, old = np.empty(keys, dtype=np.int64), np.empty(keys, dtype=np.int64)
    for b in range(batch):
        n = 0
        for s in range(keys):
            n += up[b, s]
        rank = 0
        for s in range(keys):
            back, bin_ = query[b] - s, 0
            while back > 0:
                back >>= 1
                bin_ += 1
            near[s], old[s] = bin_, rank * tenths // max(n, 1)
            if up[b, s]:
                distance[heads, bin_] += weight[b] * chance[b]
                relative[heads, old[s]] += weight[b] * chance[b]
                rank += 1
        for j in range(heads):
            for s in range(keys):
                if up[b, s]:
                    distance[j, near[s]] += weight[b] * own[b, j, s]
                    relative[j, old[s]] += weight[b] * own[b, j, s]
