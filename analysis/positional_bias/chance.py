"""What a random selector does at the same counts: how its selections scatter, and the bias that this alone shows."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.positional_bias.tally import BINS, RECENT_BINS, Tally
from indexscope.analysis.statistics.resampling import Array, ratio

# From this variance on, selections of a bin are as good as normal.
_NORMAL = 50.0


def scatter(own: Tally) -> dict[str, tuple[Array, Array]]:
    """Eligible keys and the variance of random selections, by axis, each [layers, all bins], summed over samples.

    A random selector takes k of a query's n keys without replacement, so that its selections among the m keys of a bin
    are hypergeometric, of variance k (m/n) (1 - m/n) (n - k)/(n - 1); queries and samples are independent. The table
    does not hold n query by query. It is an arithmetic progression from k + 1 on: all queries, or a sample of them,
    whose step is found from sum of 1/n, the expected attention on the query's own key.

    Args:
        own: The axis of distances.

    Returns:
        Axis to keys and variance; bins are 0 to the farthest of the axis.
    """
    size = int(own.bins[-1]) + 1 if len(own.bins) else 0
    widths = {"distance": size, "relative": BINS["relative"], "parts": 2 * size}
    found = {
        axis: (np.zeros((len(own.layers), width)), np.zeros((len(own.layers), width))) for axis, width in widths.items()
    }
    harmonic = own.attention_expected[..., own.bins == 0].sum(axis=-1)
    total = own.expected.sum(axis=-1)
    for layer in range(len(own.layers)):
        for queries, chosen, inverse in zip(own.queries[:, layer], total[:, layer], harmonic[:, layer], strict=True):
            if not queries or not chosen:
                continue
            for axis, parts in _scatter(int(queries), round(chosen / queries, 6), round(inverse, 9), size).items():
                for sums, part in zip(found[axis], parts, strict=True):
                    sums[layer] += part
    return found


@lru_cache(maxsize=4096)
def _scatter(queries: int, k: float, inverse: float, size: int) -> dict[str, tuple[Array, Array]]:
    n = eligible_counts(queries, k, inverse)
    edges = np.r_[0, 2 ** np.arange(size)]  # first distance of each bin, and what lies beyond the last one
    reached = np.minimum(n[:, None], np.r_[edges[:size], 2.0 ** (size - 1)])
    tenths = np.ceil(np.arange(11) * n[:, None] / 10 - 1e-9)
    keys = {"distance": np.diff(reached, axis=1), "relative": np.diff(tenths, axis=1)}
    # The oldest tenth is what lies at distances from n less its keys on.
    others = np.diff(np.minimum(reached, n[:, None] - tenths[:, 1:2]), axis=1)
    others[:, : RECENT_BINS + 1] = keys["distance"][:, : RECENT_BINS + 1]
    keys["parts"] = np.stack([others, keys["distance"] - others], axis=2).reshape(len(n), -1)
    return {axis: _sums(own, n, k) for axis, own in keys.items()}


def _sums(keys: Array, n: Array, k: float) -> tuple[Array, Array]:
    share = keys / n[:, None]
    free = k * np.clip(n - k, 0, None) / np.maximum(n - 1, 1)
    return keys.sum(axis=0), (free[:, None] * share * (1 - share)).sum(axis=0)


def eligible_counts(queries: int, k: float, inverse: float) -> Array:
    """Eligible keys of each query in effect: an arithmetic progression from k + 1 on with the given sum of 1/n.

    >>> eligible_counts(3, 2, 1 / 3 + 1 / 4 + 1 / 5).tolist()
    [3.0, 4.0, 5.0]
    """
    first, place = np.floor(k) + 1, np.arange(queries)
    low, high = 1.0, 1.0
    if (1 / (first + place)).sum() > inverse * (1 + 1e-7) > 0:
        while high < 1e9 and (1 / (first + high * place)).sum() > inverse:
            high *= 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if (1 / (first + middle * place)).sum() > inverse else (low, middle)
    return np.asarray(first + np.round(high * place), dtype=np.float64)


def floor(expected: Array, variance: Array, cap: float) -> float:
    """Expectation of the bias of a random selector: expected-weighted mean of E min(cap, |log2(S / expected)|).

    S is normal where its variance is large, so that E |log2(S / e)| = sqrt(2 variance / pi) / (e ln 2); else binomial
    with the same mean and variance.

    Args:
        expected: Expected selections of each cell.
        variance: Their variances.
        cap: Largest |log2| that counts.

    Returns:
        Bits; NaN where nothing is expected.
    """
    height = ratio(np.sqrt(2 * variance / np.pi), expected * np.log(2))
    for cell in np.flatnonzero((variance < _NORMAL) & (expected > 0)):
        height[cell] = _height(expected[cell], variance[cell], cap)
    return float(ratio(np.nansum(expected * np.minimum(height, cap)), expected.sum()))


def _height(expected: float, variance: float, cap: float) -> float:
    chance = max(1 - variance / expected, 1e-6)
    trials = max(int(np.ceil(expected / chance - 1e-9)), 1)
    reach = 12 * np.sqrt(variance) + 12
    values = np.arange(max(0, int(expected - reach)), min(trials, int(expected + reach)) + 1)
    weights = _binomial(values, trials, min(expected / trials, 1.0))
    with np.errstate(divide="ignore"):
        logs = np.minimum(np.abs(np.log2(values / expected)), cap)
    return float(ratio((weights * logs).sum(), weights.sum()))


def _binomial(values: NDArray[np.int64], trials: int, share: float) -> Array:
    """Binomial probabilities of consecutive values, relative to the largest of them."""
    if share >= 1.0:
        return np.asarray(values == trials, dtype=np.float64)
    steps = (trials - values[:-1]) / values[1:] * share / (1 - share)
    logs = np.concatenate(([0.0], np.cumsum(np.log(steps))))
    return np.asarray(np.exp(logs - logs.max()))
