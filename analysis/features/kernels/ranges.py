"""E_t as one range of keys a query, where it is one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.compiled import exact


@exact
def key_ranges(eligible: NDArray[np.uint8], low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
    """Write the first eligible key and one past the last of each query; tell whether the ranges have no gaps.

    Args:
        eligible: E_t, [queries, keys], 0 or 1.
        low: [queries].
        high: [queries]; both are 0 where there is no eligible key.
    """
    keys = eligible.shape[1]
    for i in range(eligible.shape[0]):
        row = eligible[i]
        count = 0
        for s in range(keys):
            count += row[s]
        first = 0
        while first < keys and not row[first]:
            first += 1
        last = keys
        while last > first and not row[last - 1]:
            last -= 1
        if first == last:
            first = last = 0
        low[i], high[i] = first, last
        if count != last - first:
            return False
    return True


@exact
def earlier_copies(tokens: NDArray[np.int64], vocabulary: int, copies: NDArray[np.int64]) -> None:
    """Position of the latest earlier copy of each token, or -1.

    Args:
        tokens: Token ids, [sequence].
        vocabulary: One more than the largest id.
        copies: [sequence].
    """
    seen = np.full(vocabulary, -1, dtype=np.int64)
    for t in range(len(tokens)):
        copies[t] = seen[tokens[t]]
        seen[tokens[t]] = t
