"""Features that need the attention weights in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.columns import PER_HEAD, PER_QUERY
from indexscope.analysis.features.kernels.compiled import kernel
from indexscope.analysis.features.metrics.concentration import SHARE

_TOP_5, _TOP_10, _TOP_20, _TOP_64, _TOP_K, _KEYS = (
    PER_HEAD.index(name)
    for name in ("top_5_mass", "top_10_mass", "top_20_mass", "top_64_mass", "top_k_mass", "keys_for_95")
)
_ORACLE, _OVERLAP, _TOP_KEY = (PER_QUERY.index(name) for name in ("oracle_recall", "oracle_overlap", "top_key_kept"))
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_SPARE = np.float32(1 - SHARE)
_STEP = 64


@kernel
def sum_largest(ascending: NDArray[np.float32], count: int) -> np.float32:
    """Sum of the largest values of a sorted row."""
    total = _ZERO
    for j in range(max(0, len(ascending) - count), len(ascending)):
        total += ascending[j]
    return total


@kernel
def ordered_rows(x: NDArray[np.float32], eligible: NDArray[np.int64], top_k: int, stats: NDArray[np.float32]) -> None:
    """Masses of the largest weights and the keys that hold 95 %.

    Args:
        x: p sorted along keys, smallest first, [heads + 1, queries, keys]; zeros outside E_t come first.
        eligible: n_t, [queries].
        top_k: The budget k of top_k_mass.
        stats: Features by name [names, heads, queries].
    """
    heads, queries, keys = stats.shape[1], x.shape[1], x.shape[2]
    for h in range(heads):
        for i in range(queries):
            n = eligible[i]
            if n <= 0:
                continue
            row = x[h, i, keys - n :]
            stats[_TOP_5, h, i] = sum_largest(row, 5)
            stats[_TOP_10, h, i] = sum_largest(row, 10)
            stats[_TOP_20, h, i] = sum_largest(row, 20)
            stats[_TOP_64, h, i] = sum_largest(row, 64)
            stats[_TOP_K, h, i] = sum_largest(row, top_k)
            # Keys that may be left out while the rest still hold 95 %.
            spare, left = 0, _ZERO
            while spare + _STEP <= n:
                more = _ZERO
                for j in range(spare, spare + _STEP):
                    more += row[j]
                if left + more > _SPARE:
                    break
                left += more
                spare += _STEP
            while spare < n and left + row[spare] <= _SPARE:
                left += row[spare]
                spare += 1
            stats[_KEYS, h, i] = _ONE - np.float32(spare) / np.float32(n)


@kernel
def oracle_rows(
    ascending: NDArray[np.float32],
    counted: NDArray[np.bool_],
    picked: NDArray[np.float32],
    counts: NDArray[np.int64],
    of_query: NDArray[np.float32],
) -> None:
    """What the best k_t keys of the head mean hold, how many of them are selected, and whether the best one is.

    Where weights are equal at the oracle's edge, selected keys go first, as long as the oracle has room.

    Args:
        ascending: Head-mean attention sorted along keys, [queries, keys].
        counted: Queries in effect, [queries].
        picked: Head-mean attention of the selected keys, [queries, keys].
        counts: k_t, [queries].
        of_query: Features by name [names, queries].
    """
    keys = ascending.shape[1]
    for i in range(len(counts)):
        k = counts[i]
        if not counted[i]:
            continue
        row = ascending[i]
        of_query[_TOP_KEY, i] = _ZERO
        for c in range(k):
            if picked[i, c] == row[keys - 1]:
                of_query[_TOP_KEY, i] = _ONE
        if k == 0:
            continue
        edge = row[keys - k]
        of_query[_ORACLE, i] = sum_largest(row, k)
        room = k
        for j in range(keys - k, keys):
            if row[j] > edge:
                room -= 1
        above, tied = 0, 0
        for c in range(k):
            if picked[i, c] > edge:
                above += 1
            elif picked[i, c] == edge:
                tied += 1
        of_query[_OVERLAP, i] = np.float32(above + min(tied, room)) / np.float32(k)
