"""Means, quantiles and a correlation over weighted queries, each with its bootstrap over samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.comparison.inference import difference_interval, effective
from indexscope.analysis.output_divergence.quantiles import quantiles_of
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import ANY, CHANGE, Range
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio, resample_counts


class Estimate(NamedTuple):
    """A value with its interval, NaN where unknown; n counts samples."""

    value: float
    low: float
    high: float
    n: int

    @property
    def exponential(self) -> Estimate:
        """That of e to the value."""
        return Estimate(float(np.exp(self.value)), float(np.exp(self.low)), float(np.exp(self.high)), self.n)


@dataclass(frozen=True)
class Weighted:
    """Queries of some samples; all estimates of the same samples share their resamples.

    Attributes:
        sample: Place of each query's sample among those that are resampled, [Q].
        weight: What it stands for, [Q].
        samples: How many samples there are.
        settings: The bootstrap.
    """

    sample: NDArray[np.int64]
    weight: Array
    samples: int
    settings: BootstrapSettings

    def of(self, kept: NDArray[np.bool_]) -> Weighted:
        """Some of the queries, among the same samples."""
        return Weighted(self.sample[kept], self.weight[kept], self.samples, self.settings)

    def mean(self, values: Array, within: Range = ANY, root: bool = False) -> Estimate:
        """sum(value x weight) / sum(weight) over the queries where the value is known, or its square root."""
        known = ~np.isnan(values)
        found, replicates, _ = self._means(values, known)
        if root:
            found, replicates = np.sqrt(found), np.sqrt(replicates)
        return self._estimates(found, replicates, known, within)[0]

    def difference(self, values: Array) -> Estimate:
        """The mean of paired differences, with the interval that the comparison gives the same difference."""
        known = ~np.isnan(values)
        found, replicates, weights = self._means(values, known)
        (low,), (high,) = difference_interval(found, replicates, effective(weights), self.settings.confidence)
        return Estimate(float(found[0]), float(low), float(high), int((weights > 0).sum()))

    def _means(self, values: Array, known: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
        """The mean [1], its replicates [resamples, 1] and the weight of each sample [samples, 1]."""
        top, bottom = self._sums((values * self.weight)[known], known), self._sums(self.weight[known], known)
        replicates = bootstrap_ratios(top, bottom, self.settings.resamples, self.settings.seed)
        return ratio(top.sum(axis=0), bottom.sum(axis=0)), replicates, bottom

    def quantiles(self, values: Array, levels: Sequence[float], within: Range = ANY) -> list[Estimate]:
        """The smallest value whose queries, with all smaller ones, hold the share of the weight, for each level."""
        known = ~np.isnan(values)
        order = np.flatnonzero(known)[np.argsort(values[known], kind="stable")]
        ordered, weight, sample = values[order], self.weight[order], self.sample[order]
        if not len(order):
            return [Estimate(np.nan, np.nan, np.nan, 0)] * len(levels)
        asked = np.array(levels, dtype=np.float64)
        found = quantiles_of(ordered, weight, sample, np.ones((1, self.samples)), asked)[0]
        blocks = resample_counts(self.samples, self.settings.resamples, self.settings.seed)
        replicates = np.concatenate([quantiles_of(ordered, weight, sample, block, asked) for block in blocks])
        return self._estimates(found, replicates, known, within)

    def correlation(self, one: Array, other: Array) -> Estimate:
        """Pearson's correlation of two values over the queries where both are known."""
        known = ~np.isnan(one) & ~np.isnan(other)
        weight = self.weight[known]
        # Moments about the overall means lose no digits.
        x, y = (part[known] - ratio(weight @ part[known], weight.sum()) for part in (one, other))
        sums = np.concatenate(
            [self._sums(weight * part, known) for part in (np.ones(len(x)), x, y, x * x, y * y, x * y)], axis=1
        )
        blocks = resample_counts(self.samples, self.settings.resamples, self.settings.seed) if self.samples else ()
        replicates = np.concatenate([np.empty((0, 1)), *(_correlation(block @ sums)[:, None] for block in blocks)])
        return self._estimates(_correlation(sums.sum(axis=0)[None]), replicates, known, CHANGE)[0]

    def _sums(self, values: Array, known: NDArray[np.bool_]) -> Array:
        return np.bincount(self.sample[known], weights=values, minlength=self.samples).astype(np.float64)[:, None]

    def _estimates(self, found: Array, replicates: Array, known: NDArray[np.bool_], within: Range) -> list[Estimate]:
        n = len(np.unique(self.sample[known & (self.weight > 0)]))
        low, high = interval(found, replicates, np.full(len(found), n), self.settings.confidence, within)
        rows = zip(found.tolist(), low.tolist(), high.tolist(), strict=True)
        return [Estimate(value, start, end, n) for value, start, end in rows]


def _correlation(sums: Array) -> Array:
    """From sums of weight, x, y, x², y² and xy, [rows, 6]."""
    weight, x, y, xx, yy, xy = (ratio(part, sums[:, 0]) for part in sums.T)
    del weight
    with np.errstate(invalid="ignore"):
        spread = np.sqrt((xx - x * x) * (yy - y * y))
    return np.clip(ratio(xy - x * y, np.nan_to_num(spread)), -1.0, 1.0)
