"""What a selection holds of the dense attention, and the output that it leaves."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.columns import PER_HEAD, PER_QUERY
from indexscope.analysis.features.kernels.compiled import kernel

_HEAD_RECALL, _OUTPUT_ERROR = PER_HEAD.index("head_recall"), PER_HEAD.index("output_error")
_RECALL, _RANDOM = PER_QUERY.index("selection_recall"), PER_QUERY.index("random_recall")
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
# Below this selected mass, p within S_t has lost its digits and the softmax over S_t is computed afresh.
TINY_MASS = np.float32(1e-6)


@kernel
def list_selected(
    selected: NDArray[np.uint8],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    first_key: int,
    keys: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """S_t as lists of keys.

    Args:
        selected: S_t as a mask over all keys, [queries, all keys].
        low: First eligible key of each query, counted from the block's first key, [queries].
        high: One past the last one.
        first_key: The block's first key among all keys.
        keys: Selected keys of each query, counted from the block's first, ascending, [queries, keys].
        counts: k_t, [queries].
    """
    for i in range(len(low)):
        mask = selected[i, first_key:]
        found = 0
        for s in range(low[i], high[i]):
            keys[i, found] = s
            found += mask[s]
        counts[i] = found


@kernel
def attend_selected(
    x: NDArray[np.float32],
    value: NDArray[np.float32],
    first_key: int,
    counted: NDArray[np.bool_],
    keys: NDArray[np.int32],
    counts: NDArray[np.int64],
    eligible: NDArray[np.int64],
    beyond: NDArray[np.float32],
    output: NDArray[np.float32],
    picked: NDArray[np.float32],
    stats: NDArray[np.float32],
    of_query: NDArray[np.float32],
    lost: NDArray[np.bool_],
) -> None:
    """Recall and output error of the queries in effect, and the sparse output in place of the dense one.

    Args:
        x: p and in the last plane its head mean, [heads + 1, queries, keys].
        value: [key heads, all keys, value width].
        first_key: The block's first key among all keys.
        counted: Queries in effect, [queries].
        keys: Selected keys of each query, [queries, keys].
        counts: k_t, [queries].
        eligible: n_t, [queries].
        beyond: Weight of the learned sink relative to the sum over E_t, [heads, queries].
        output: Dense output [heads, queries, value width]; replaced by the sparse one.
        picked: Head-mean attention of the selected keys, [queries, keys].
        stats: Features by name [names, heads, queries].
        of_query: Features by name [names, queries].
        lost: Set where p within S_t has no digits left, [heads, queries]; nothing is written for those.
    """
    heads, queries, width = output.shape
    share = heads // value.shape[0]
    sparse = np.empty(width, dtype=np.float32)
    for i in range(queries):
        k = counts[i]
        if not counted[i]:
            continue
        total = _ZERO
        for c in range(k):
            picked[i, c] = x[heads, i, keys[i, c]]
            total += picked[i, c]
        of_query[_RECALL, i] = total
        of_query[_RANDOM, i] = np.float32(k) / np.float32(eligible[i])
        for h in range(heads):
            p, values = x[h, i], value[h // share, first_key:]
            mass = _ZERO
            sparse[:] = _ZERO
            for c in range(k):
                weight = p[keys[i, c]]
                row = values[keys[i, c]]
                mass += weight
                for d in range(width):
                    sparse[d] += weight * row[d]
            stats[_HEAD_RECALL, h, i] = mass
            if mass < TINY_MASS:
                lost[h, i] = True
                continue
            scale = _ONE / (mass + beyond[h, i])
            gap, norm = _ZERO, _ZERO
            for d in range(width):
                dense = output[h, i, d]
                o = sparse[d] * scale
                gap += (o - dense) * (o - dense)
                norm += dense * dense
                output[h, i, d] = o
            if norm > _ZERO:
                stats[_OUTPUT_ERROR, h, i] = math.sqrt(gap / norm)
