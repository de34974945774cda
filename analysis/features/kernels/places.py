"""Selections and head-mean attention by distance and relative position, with what chance alone would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.compiled import kernel

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
    cells: NDArray[np.float64],
) -> None:
    """Add to the sums of `indexscope.analysis.features.positions.BinSums`.

    E_t is one range of keys, so every bin is one, too, and so is what two bins have in common.

    Args:
        mean: Head-mean attention, [queries, keys].
        low: First eligible key of each query, [queries].
        high: One past the last one.
        own: Key that is the query's own token.
        counted: Queries that count, [queries].
        keys: Selected keys of each query, [queries, keys].
        counts: k_t, [queries]; 0 where the layer has no selection.
        cells: Selections, expected selections, attention, expected attention by distance bin and tenth of E_t,
            [4, distance bins, relative bins].
    """
    bins = cells.shape[2]
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
            while first < last:
                # Key of rank r falls into bin floor(bins * r / n).
                tenth = (first - lo) * bins // n
                end = min(lo + ((tenth + 1) * n + bins - 1) // bins, last)
                mass = _ZERO
                for s in range(first, end):
                    mass += row[s]
                cells[1, b, tenth] += expected * (end - first)
                cells[2, b, tenth] += mass
                cells[3, b, tenth] += chance * (end - first)
                first = end
            nearest = farthest + 1
            b += 1
        for c in range(k):
            s = keys[i, c]
            d, b = t - s, 0
            while d > 0:
                d >>= 1
                b += 1
            cells[0, b, (s - lo) * bins // n] += 1.0
