"""Softmax of attention rows in place, and every feature that needs no order of the keys."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.columns import PER_HEAD
from indexscope.analysis.features.kernels.compiled import kernel
from indexscope.analysis.features.kernels.maths import exp32

_ENTROPY, _EFFECTIVE, _PARTICIPATION, _NORMALIZED, _SPARSITY, _LARGEST = (
    PER_HEAD.index(name)
    for name in (
        *("attention_entropy", "effective_keys", "participation", "normalized_entropy", "sparsity_ratio"),
        "max_weight",
    )
)
_LOCAL, _SINK, _SELF, _PREVIOUS, _DISTANCE, _INDUCTION = (
    PER_HEAD.index(name)
    for name in ("local_mass", "sink_mass", "self_mass", "previous_mass", "mean_distance", "induction_mass")
)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)


@kernel
def softmax_rows(
    x: NDArray[np.float32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    own: NDArray[np.int64],
    first_key: int,
    copies: NDArray[np.int64],
    ramp: NDArray[np.float32],
    threshold: np.float32,
    window: int,
    sink_keys: int,
    first_of_map: int,
    sinks: NDArray[np.float32],
    stats: NDArray[np.float32],
    beyond: NDArray[np.float32],
    by_key: NDArray[np.float32],
    by_slope: NDArray[np.float32],
) -> None:
    """Turn logits into dense attention p, its head mean and its features.

    Args:
        x: Logits [heads + 1, queries, keys]; on return p, 0 outside E_t, and in the last plane the mean over heads.
        low: First eligible key of each query, [queries].
        high: One past the last eligible key; equal to low where there is none.
        own: Key that is the query's own token (eligible or not), [queries].
        first_key: Position of key 0 in the sequence.
        copies: Position of the latest earlier copy of each position's token, or -1, [sequence].
        ramp: 0, 1, 2 ... as floats, at least [keys].
        threshold: Weights below it are sparse.
        window: Keys, the own one included, that are local.
        sink_keys: First positions of the sequence that are sinks.
        first_of_map: First query of the block that counts in by_key and by_slope.
        sinks: Learned sink logits [heads]; -1e30 where there are none.
        stats: Features by name [names, heads, queries]; only defined ones are written.
        beyond: Weight of the learned sink relative to the sum over E_t, [heads, queries].
        by_key: p summed over queries, [heads, keys].
        by_slope: p summed along diagonals; place j holds the distance of the block's last query to key j.
    """
    heads, queries, keys = x.shape[0] - 1, x.shape[1], x.shape[2]
    share = _ONE / np.float32(heads)
    chain = np.empty(keys, dtype=np.int64)
    for i in range(queries):
        lo, hi, t = low[i], high[i], own[i]
        n = hi - lo
        x[heads, i, :] = _ZERO
        for h in range(heads):
            x[h, i, :lo] = _ZERO
            x[h, i, hi:] = _ZERO
        if n <= 0:
            beyond[:, i] = _ZERO
            continue
        links = 0
        copy = copies[first_key + t]
        while copy >= 0:
            s = copy + 1 - first_key
            if s < lo:
                break
            if s < hi:
                chain[links] = s
                links += 1
            copy = copies[copy]
        mean = x[heads, i, lo:hi]
        distance_of = np.float32(t - lo)
        shift = queries - 1 - i
        last_sink = min(max(sink_keys - first_key, lo), hi) - lo
        first_local = min(max(t - window + 1, lo), hi) - lo
        ln_n = math.log(float(n))
        for h in range(heads):
            row = x[h, i, lo:hi]
            highest = row[0]
            for j in range(n):
                v = row[j]
                highest = v if v > highest else highest
            z, weighted, distance = _ZERO, _ZERO, _ZERO
            for j in range(n):
                v = row[j] - highest
                e = exp32(v)
                row[j] = e
                z += e
                # Beyond -87 the product is nothing, but e no longer falls.
                weighted += e * (v if v > np.float32(-87.0) else np.float32(-87.0))
                distance += e * (distance_of - ramp[j])
            scale = _ONE / z
            squares, above = _ZERO, _ZERO
            for j in range(n):
                p = row[j] * scale
                row[j] = p
                squares += p * p
                above += _ONE if p >= threshold else _ZERO
                mean[j] += p
            if i >= first_of_map:
                columns, slopes = by_key[h, lo:hi], by_slope[h, lo + shift : hi + shift]
                for j in range(n):
                    columns[j] += row[j]
                for j in range(n):
                    slopes[j] += row[j]
            local, sink, induction = _ZERO, _ZERO, _ZERO
            for j in range(first_local, n):
                local += row[j]
            for j in range(last_sink):
                sink += row[j]
            for link in range(links):
                induction += row[chain[link] - lo]
            entropy = float(math.log(z) - weighted * scale)
            entropy = entropy if entropy > 0.0 else 0.0
            beyond[h, i] = math.exp(min(float(sinks[h]) - float(highest), 80.0)) * scale
            stats[_ENTROPY, h, i] = entropy
            stats[_EFFECTIVE, h, i] = math.exp(entropy)
            if n > 1:
                stats[_NORMALIZED, h, i] = entropy / ln_n
            stats[_PARTICIPATION, h, i] = _ONE / squares
            stats[_SPARSITY, h, i] = _ONE - above / np.float32(n)
            stats[_LARGEST, h, i] = scale
            stats[_LOCAL, h, i] = local
            stats[_SINK, h, i] = sink
            stats[_SELF, h, i] = row[t - lo] if t < hi else _ZERO
            stats[_PREVIOUS, h, i] = row[t - 1 - lo] if lo <= t - 1 < hi else _ZERO
            stats[_DISTANCE, h, i] = distance * scale
            stats[_INDUCTION, h, i] = induction
        for j in range(n):
            mean[j] *= share
