"""Selections and head-mean attention by distance and by relative position, with what chance alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.features.kernels.compiled import kernel

_ZERO = np.float32(0.0)


@kernel
def place_rows(
    mean: NDArray[np.float32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    own: NDArray[np.int64],
    counted: NDArray[np.bool_],
    keys: NDArray[np.int32],
    counts: NDArray[np.int64],
    distance: NDArray[np.float64],
    relative: NDArray[np.float64],
) -> None:
    """Add to the sums of `analysis.features.positions.BinSums`.

    E_t is one range of keys, so every bin is one, too.

    Args:
        mean: Head-mean attention, [queries, keys].
        low: First eligible key of each query, [queries].
        high: One past the last one.
        own: Key that is the query's own token.
        counted: Queries that count, [queries].
        keys: Selected keys of each query, [queries, keys].
        counts: k_t, [queries]; 0 where the layer has no selection.
        distance: Selections, expected selections, attention, expected attention by bin, [4, distance bins].
        relative: The same by tenths of E_t, [4, relative bins].
    """
    bins = relative.shape[1]
    for i in range(len(low)):
        if not counted[i]:
            continue
        lo, hi, t, k = low[i], high[i], own[i], counts[i]
        n = hi - lo
        row = mean[i]
        chance = 1.0 / n
        expected = k * chance
        nearest, b = 0, 0
        while t - nearest >= lo:
            farthest = 0 if b == 0 else 2 * nearest - 1
            first, last = max(t - farthest, lo), min(t - nearest + 1, hi)
            if first < last:
                mass = _ZERO
                for s in range(first, last):
                    mass += row[s]
                distance[1, b] += expected * (last - first)
                distance[2, b] += mass
                distance[3, b] += chance * (last - first)
            nearest = farthest + 1
            b += 1
        for b in range(bins):
            # Key of rank r falls into bin floor(bins * r / n).
            first, last = (b * n + bins - 1) // bins, ((b + 1) * n + bins - 1) // bins
            mass = _ZERO
            for s in range(lo + first, lo + last):
                mass += row[s]
            relative[1, b] += expected * (last - first)
            relative[2, b] += mass
            relative[3, b] += chance * (last - first)
        for c in range(k):
            s = keys[i, c]
            d, b = t - s, 0
            while d > 0:
                d >>= 1
                b += 1
            distance[0, b] += 1.0
            relative[0, (s - lo) * bins // n] += 1.0
