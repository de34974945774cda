"""How many selected keys a cache of the most recently used ones would hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.compiled import kernel


@kernel
def cache_hits(
    selected: NDArray[np.uint8],
    first_key: int,
    order: NDArray[np.int64],
    after: NDArray[np.int64],
    state: NDArray[np.int64],
    hits: NDArray[np.float32],
) -> None:
    """Share of each query's selected keys that were used lately, and the keys in the order of their last use.

    A cache of c keys that drops the least recently used one holds a key exactly if fewer than c other keys were used
    since (stack distance: Mattson, Gecsei, Slutz and Traiger 1970, Evaluation techniques for storage hierarchies). Keys
    of one query are used from the oldest to the newest.

    Args:
        selected: S_t, 0 or 1, [queries, keys].
        first_key: Position of the first key.
        order: Positions of the keys used so far, the latest first, [most that are kept]; changed.
        after: As large, for what it becomes.
        state: How many of them there are, and how many the query before selected (-1: not seen); changed.
        hits: Share of S_t in the last selection, and in caches of 2 k_t and 4 k_t keys, [3, queries]; not written where
            nothing is selected.
    """
    queries, keys = selected.shape
    for i in range(queries):
        mask = selected[i]
        used = 0
        for s in range(keys - 1, -1, -1):
            if mask[s]:
                after[used] = first_key + s
                used += 1
        last, twice, fourfold = 0, 0, 0
        kept = used
        for rank in range(state[0]):
            s = order[rank] - first_key
            if s >= 0 and mask[s]:
                last += rank < state[1]
                twice += rank < 2 * used
                fourfold += rank < 4 * used
            elif kept < len(after):
                after[kept] = order[rank]
                kept += 1
        if used:
            if state[1] >= 0:
                hits[0, i] = np.float32(last) / np.float32(used)
            hits[1, i] = np.float32(twice) / np.float32(used)
            hits[2, i] = np.float32(fourfold) / np.float32(used)
        order[:kept] = after[:kept]
        state[0], state[1] = kept, used
