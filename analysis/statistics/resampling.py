"""Ratio estimators and their uncertainty: what every analysis and comparison computes with.

A metric of a dataset is sum(value x weight) / sum(weight) over its rows, and so a ratio of two sums over *samples*
(documents). Rows of one sample are not independent; samples are. So uncertainty comes from resampling samples with
replacement, numerator and denominator together, never rows or tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexscope.analysis.statistics.ranges import ANY, Range, around, clipped

Array = NDArray[np.float64]

# Below this many samples the tails of the resampled values are the sample's own extremes: n = 5 values cover 94 % at
# most, n = 2 values 50 %. A t interval with the bootstrap's standard error says honestly how little is known.
FEWEST_FOR_PERCENTILES = 8
_DRAWS_AT_ONCE = 4_000_000
#: Draws that are few enough to be kept from one table to the next: 8 MiB.
_KEPT = 1 << 20


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Array:
    """Quotient of two sums, NaN where the denominator is 0: nothing was measured there.

    >>> ratio([1.0, 0.0], [4.0, 0.0]).tolist()
    [0.25, nan]
    """
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0))


def weighted_mean(values: ArrayLike, weights: ArrayLike) -> float:
    """sum(values x weights) / sum(weights), NaN values left out of both sums; NaN where no weight is left.

    >>> weighted_mean([1.0, 4.0, float("nan")], [2.0, 1.0, 5.0])
    2.0
    """
    value, weight = np.asarray(values, float), np.asarray(weights, float)
    known = ~np.isnan(value) & (weight > 0)
    return float(ratio((value[known] * weight[known]).sum(), weight[known].sum()))


def resample_counts(samples: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each sample is drawn in each bootstrap resample, in blocks that bound the memory.

    Args:
        samples: Samples n; every resample draws n of them with replacement.
        resamples: Number of resamples.
        seed: The draws depend on this, n and the number of resamples alone.

    Yields:
        Blocks [resamples of the block, samples], whose rows sum to n.
    """
    if samples * resamples <= _KEPT:
        yield _all_counts(samples, resamples, seed)
    else:
        yield from _counts(samples, resamples, seed)


@lru_cache(maxsize=4)
def _all_counts(samples: int, resamples: int, seed: int) -> Array:
    """All resamples, which every table of an analysis asks for."""
    found = np.concatenate([np.zeros((0, samples)), *_counts(samples, resamples, seed)])
    found.flags.writeable = False
    return found


def _counts(samples: int, resamples: int, seed: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    block = max(1, min(resamples, _DRAWS_AT_ONCE // max(samples, 1)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, samples, (size, samples))
        drawn += np.arange(size)[:, None] * samples
        yield np.bincount(drawn.ravel(), minlength=size * samples).reshape(size, samples).astype(float)


def bootstrap_ratios(numerator: Array, denominator: Array, resamples: int, seed: int) -> Array:
    """Ratio estimates of every column in every resample of the rows; all columns share the resamples.

    Args:
        numerator: Sums of value x weight, [samples, columns]; 0 where a sample has nothing.
        denominator: Sums of weight, [samples, columns].
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        [resamples, columns]; NaN where a resample holds no weight.
    """
    samples, columns = numerator.shape
    if samples == 0 or columns == 0:
        return np.full((resamples, columns), np.nan)
    blocks = [ratio(counts @ numerator, counts @ denominator) for counts in resample_counts(samples, resamples, seed)]
    return np.concatenate(blocks)


def interval(
    estimate: Array, replicates: Array, n: NDArray[np.int64], confidence: float, within: Range = ANY
) -> tuple[Array, Array]:
    """Confidence bounds of each column from its bootstrap replicates.

    From eight samples on the expanded percentile interval: quantiles at Phi(-sqrt(n / (n - 1)) t) and its mirror, with
    t the quantile of Student's t on n - 1 degrees of freedom, which undoes the narrowness of the plain percentile
    interval in small samples (Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 5.3); it lies
    where the replicates do. Below that, t sqrt(n / (n - 1)) standard deviations of the replicates around the estimate,
    on the scale of its range (`ranges.around`).

    Args:
        estimate: The estimates, [columns].
        replicates: Bootstrap replicates, [resamples, columns]; NaN is left out.
        n: Samples with weight behind each estimate, [columns].
        confidence: Coverage, e.g. 0.95.
        within: Least and greatest value that the quantity can take, of all columns or [columns] each.

    Returns:
        Lower and upper bounds, [columns], within the range; NaN where n < 2 or the estimate is unknown.
    """
    from scipy.special import ndtr, stdtrit  # the declarations of metrics import this module, and most runs no scipy

    low, high = np.full(len(estimate), np.nan), np.full(len(estimate), np.nan)
    least, most = (np.broadcast_to(np.asarray(end, np.float64), estimate.shape) for end in within)
    for size in np.unique(n[n >= 2]):
        t = stdtrit(size - 1, 0.5 + confidence / 2)
        columns = np.flatnonzero((n == size) & ~np.isnan(estimate))
        own, ends = estimate[columns], (least[columns], most[columns])
        if size < FEWEST_FOR_PERCENTILES:
            error = standard_error(replicates[:, columns], n[columns])
            low[columns], high[columns] = around(own, error, t, ends)
        else:
            ordered = np.sort(replicates[:, columns], axis=0)  # NaN goes last
            reach = float(t * expansion(size))
            bounds = _quantile(ordered, float(ndtr(-reach))), _quantile(ordered, float(ndtr(reach)))
            low[columns], high[columns] = clipped(*bounds, own, ends)
    return low, high


def expansion(n: ArrayLike) -> Array:
    """sqrt(n / (n - 1)): how much narrower a bootstrap over n samples is than the estimate's error; NaN below 2."""
    size = np.asarray(n, dtype=np.float64)
    return np.sqrt(ratio(size, np.where(size >= 2, size - 1, 0.0)))


def standard_error(replicates: Array, n: ArrayLike) -> Array:
    """Standard error of each column: sqrt(n / (n - 1)) x the standard deviation of its bootstrap replicates.

    For a mean of equally weighted samples it is s / sqrt(n), up to the noise of finitely many resamples.

    Args:
        replicates: Bootstrap replicates, [resamples, columns]; NaN is left out.
        n: Samples with weight, [columns].

    Returns:
        [columns], in the unit of the estimates; NaN where n < 2.
    """
    return np.asarray(expansion(n) * _deviation(replicates))


def _deviation(replicates: Array) -> Array:
    """Standard deviation of each column without its NaN, which arise where a resample drew no sample with weight."""
    known = ~np.isnan(replicates)
    count = known.sum(axis=0)
    mean = ratio(np.where(known, replicates, 0.0).sum(axis=0), count)
    squares = np.where(known, (replicates - mean) ** 2, 0.0).sum(axis=0)
    return np.sqrt(ratio(squares, np.maximum(count - 1, 0)))


def _quantile(ordered: Array, level: float) -> Array:
    """Linear quantile of each column, sorted with NaN last; NaN for a column of nothing else."""
    count = (~np.isnan(ordered)).sum(axis=0)
    place = level * np.maximum(count - 1, 0)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    columns = np.arange(ordered.shape[1])
    lower, upper = ordered[below, columns], ordered[above, columns]
    return np.asarray(lower + (place - below) * (upper - lower))
