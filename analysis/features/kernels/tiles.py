"""Attention on whole aligned blocks of keys: see `indexscope.analysis.features.tiles`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.compiled import kernel
from indexscope.analysis.features.tiles import FIRST_QUERY, PART, SIZES, STEP

_ZERO = np.float32(0.0)
_LEVELS, _SMALLEST = len(SIZES), SIZES[0]


@kernel
def evenness(parts: NDArray[np.float32], first: int, last: int, shift: int) -> np.float32:
    """Attention that is spread evenly over the blocks of a tiling.

    Args:
        parts: Attention on parts first .. last - 1, counted from key 0.
        first: First part whose keys are all eligible.
        last: One past the last one.
        shift: Parts that the first block begins before key 0.
    """
    total = _ZERO
    part = first
    while part < last:
        end = min((part + shift) // 4 * 4 + 4 - shift, last)
        least = parts[part - first]
        for other in range(part + 1 - first, end - first):
            least = min(least, parts[other])
        total += least * np.float32(end - part)
        part = end
    return total


@kernel
def tile_rows(
    x: NDArray[np.float32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    position: int,
    first_key: int,
    sums: NDArray[np.float64],
) -> None:
    """Add the contrasts of every fourth query.

    Args:
        x: p and in the last plane its head mean, [heads + 1, queries, keys].
        low: First eligible key of each query, [queries].
        high: One past the last one.
        position: Position of the first query in the sequence.
        first_key: Position of key 0.
        sums: Contrasts by place, [heads, PHASES].
    """
    heads, queries, keys = x.shape[0] - 1, x.shape[1], x.shape[2]
    parts = np.empty(keys // PART + 1, dtype=np.float32)
    for i in range(queries):
        t = position + i
        first, last = (first_key + low[i] + PART - 1) // PART, (first_key + high[i]) // PART
        if t < FIRST_QUERY or t % STEP != STEP - 1 or last <= first:
            continue
        start = first * PART - first_key
        for h in range(heads):
            row = x[h, i, start : start + (last - first) * PART]
            for j in range(last - first):
                parts[j] = (row[PART * j] + row[PART * j + 1]) + (row[PART * j + 2] + row[PART * j + 3])
            a, b = first, last
            for level in range(_LEVELS):
                size = _SMALLEST << level
                place = size // _SMALLEST - 1 + t % size // _SMALLEST
                sums[h, place] += evenness(parts, a, b, 0) - evenness(parts, a, b, 2)
                after = (a + 1) // 2
                left_out = 2 * after - a
                a, b = after, b // 2
                if b <= a:
                    break
                for j in range(b - a):
                    parts[j] = parts[left_out + 2 * j] + parts[left_out + 2 * j + 1]
