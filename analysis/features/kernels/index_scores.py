"""Index scores: features of each row, moments of selected and unselected scores, and their histogram."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.columns import PER_QUERY
from indexscope.analysis.features.kernels.compiled import exact, kernel
from indexscope.analysis.features.kernels.maths import bits_of, exp32, log32
from indexscope.analysis.features.sketch import BINS, KEPT_BITS

_TIES, _MARGIN, _GAP, _KL, _ZEROS = (
    PER_QUERY.index(name) for name in ("tie_share", "score_margin", "score_gap", "indexer_kl", "zero_share")
)
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_HUGE = np.float32(3e38)
_DROPPED_BITS = 32 - KEPT_BITS


@kernel
def score_rows(
    scores: NDArray[np.float32],
    mean: NDArray[np.float32],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    first_key: int,
    keys: NDArray[np.int32],
    counts: NDArray[np.int64],
    centre: float,
    of_query: NDArray[np.float32],
    moments: NDArray[np.float64],
) -> None:
    """Divergence, margin, gap, ties and zeros of each row; moments of the scores of queries in effect.

    Args:
        scores: Index scores I over all keys, finite within E_t, [queries, all keys].
        mean: Head-mean attention, [queries, keys].
        low: First eligible key of each query, counted from the block's first key, [queries].
        high: One past the last one.
        first_key: The block's first key among all keys.
        keys: Selected keys of each query, [queries, keys].
        counts: k_t, [queries].
        centre: Some score, about which sums and squares are taken so that they keep their digits.
        of_query: Features by name [names, queries].
        moments: Count, sum and sum of squares about the centre, minimum, maximum and zeros of selected and of
            unselected scores, [2, 6]; added to.
    """
    for i in range(len(low)):
        lo, n, k = low[i], high[i] - low[i], counts[i]
        if n < 2:
            continue
        row = scores[i, first_key + lo : first_key + lo + n]
        p = mean[i, lo : lo + n]
        highest, lowest, zeros = row[0], row[0], _ZERO
        total, squares = 0.0, 0.0
        for j in range(n):
            v = row[j]
            highest = v if v > highest else highest
            lowest = v if v < lowest else lowest
            zeros += _ONE if v == _ZERO else _ZERO
        for j in range(n):
            v = np.float64(row[j]) - centre
            total += v
            squares += v * v
        z, kl = _ZERO, _ZERO
        for j in range(n):
            v = row[j] - highest
            z += exp32(v)
            kl += p[j] * (log32(p[j]) - v)
        divergence = float(kl + math.log(z))
        of_query[_KL, i] = divergence if divergence > 0.0 else 0.0
        of_query[_ZEROS, i] = zeros / np.float32(n)
        if k == n or k == 0:
            continue
        kth, top, kept_zeros = _HUGE, -_HUGE, 0
        kept, kept_squares = 0.0, 0.0
        for c in range(k):
            v = row[keys[i, c] - lo]
            kth = v if v < kth else kth
            top = v if v > top else top
            kept_zeros += v == _ZERO
            u = np.float64(v) - centre
            kept += u
            kept_squares += u * u
        rival, least = -_HUGE, _HUGE
        first = lo
        for c in range(k + 1):
            last = keys[i, c] if c < k else lo + n
            for s in range(first - lo, last - lo):
                v = row[s]
                rival = v if v > rival else rival
                least = v if v < least else least
            first = last + 1
        ties = 0
        if kth == rival:
            for c in range(k):
                ties += row[keys[i, c] - lo] == kth
        of_query[_MARGIN, i], of_query[_GAP, i] = _ZERO, _ZERO
        if highest > lowest:
            # About the row's own mean: far from it, squares about the centre lose their digits.
            own = total / n + centre
            spread = 0.0
            for j in range(n):
                u = np.float64(row[j]) - own
                spread += u * u
            deviation = math.sqrt(spread / n)
            of_query[_MARGIN, i] = (np.float64(kth) - np.float64(rival)) / deviation
            of_query[_GAP, i] = (kept / k - (total - kept) / (n - k)) / deviation
        of_query[_TIES, i] = np.float32(ties) / np.float32(k)
        moments[0, 0] += k
        moments[0, 1] += kept
        moments[0, 2] += kept_squares
        moments[0, 3] = min(moments[0, 3], np.float64(kth))
        moments[0, 4] = max(moments[0, 4], np.float64(top))
        moments[0, 5] += kept_zeros
        moments[1, 0] += n - k
        moments[1, 1] += total - kept
        moments[1, 2] += squares - kept_squares
        moments[1, 3] = min(moments[1, 3], np.float64(least))
        moments[1, 4] = max(moments[1, 4], np.float64(rival))
        moments[1, 5] += zeros - kept_zeros


@kernel
def bin_scores(
    scores: NDArray[np.float32],
    selected: NDArray[np.uint8],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    histogram: NDArray[np.int64],
) -> None:
    """Count the scores of queries in effect by their leading bits.

    Args:
        scores: Index scores I, [queries, keys].
        selected: S_t, [queries, keys].
        low: First eligible key of each query, [queries].
        high: One past the last one.
        histogram: Selected and unselected scores by bin, [2, BINS]; added to.
    """
    flat = histogram.reshape(-1)
    for i in range(len(low)):
        row, mask = scores[i], selected[i]
        k = 0
        for s in range(low[i], high[i]):
            k += mask[s]
        if k == high[i] - low[i]:
            continue
        for s in range(low[i], high[i]):
            bin_ = (np.int64(bits_of(row[s])) >> _DROPPED_BITS) & (BINS - 1)
            flat[bin_ + (1 - np.int64(mask[s])) * BINS] += 1


@exact
def all_finite(values: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64]) -> bool:
    """Whether [queries, keys] holds neither infinity nor NaN between low and high of each query."""
    bad = 0
    for i in range(len(low)):
        row = values[i, low[i] : high[i]]
        for j in range(len(row)):
            bad += (bits_of(row[j]) & 0x7F800000) == 0x7F800000
    return bad == 0
