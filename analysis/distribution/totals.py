"""Metrics summed over samples, by layer and by another column of a feature table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.metrics.grids import Grid
from indexscope.analysis.metrics.metric import Derived, Ratio
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.statistics.resampling import Array, ratio

Counts = NDArray[np.int64]


class Totals:
    """Sums over samples, added sample by sample: the result does not depend on what was added together.

    Args:
        rules: Name and rule of each metric.

    Attributes:
        layers: Layer ids in increasing order.
        others: Values of the other column in increasing order.
        numerator: Sums of value x weight, [metrics, layers, others].
        denominator: Sums of weight, same shape.
        samples: Samples with weight, same shape.
        anywhere: Samples with weight in any layer, [metrics, others].
        rows: Rows of the table, [layers, others].
    """

    def __init__(self, rules: Mapping[str, Ratio]) -> None:
        self.rules = rules
        self.layers, self.others = np.empty((2, 0), np.int64)
        shape = (len(rules), 0, 0)
        self.numerator: Array = np.zeros(shape)
        self.denominator: Array = np.zeros(shape)
        self.samples: Counts = np.zeros(shape, np.int64)
        self.anywhere: Counts = np.zeros(shape[::2], np.int64)
        self.rows: Counts = np.zeros(shape[1:], np.int64)

    def add(self, grid: Grid) -> None:
        """Take in more samples; they must come in increasing order for a result that no cut into shards changes."""
        self._grow(np.union1d(self.layers, grid.layers), np.union1d(self.others, grid.others))
        layers, others = np.searchsorted(self.layers, grid.layers), np.searchsorted(self.others, grid.others)
        # Mostly all of the grid's axes are ours, and a plain view is much faster than an index.
        whole = len(layers) == len(self.layers) and len(others) == len(self.others)
        at = (slice(None),) * 3 if whole else np.ix_(np.arange(len(self.rules)), layers, others)
        for place in range(len(grid.samples)):
            self.numerator[at] += grid.numerator[:, place]
            self.denominator[at] += grid.denominator[:, place]
        weighed = grid.denominator > 0
        self.samples[at] += weighed.sum(axis=1)
        self.anywhere[:, others] += weighed.any(axis=2).sum(axis=1)
        self.rows[np.ix_(layers, others)] += grid.rows.sum(axis=0)

    def estimates(self, overall: bool) -> tuple[dict[str, Array], dict[str, Counts]]:
        """Metrics and those that derive from them, with the samples behind each.

        Args:
            overall: Whether to put all layers together first: [1 + layers, others] instead of [layers, others].
        """
        top, bottom, n = self.numerator, self.denominator, self.samples
        if overall:
            top, bottom = (np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1) for sums in (top, bottom))
            n = np.concatenate([self.anywhere[:, None], n], axis=1)
        values = dict(zip(self.rules, ratio(top, bottom), strict=True))
        counts = dict(zip(self.rules, n, strict=True))
        for name, metric in REGISTRY.items():
            if isinstance(metric.rule, Derived) and set(metric.bases) <= set(values):
                values[name] = metric.rule.function(*(values[base] for base in metric.bases))
                counts[name] = np.min([counts[base] for base in metric.bases], axis=0)
        return values, counts

    def _grow(self, layers: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        if len(layers) == len(self.layers) and len(others) == len(self.others):
            return
        old = (np.searchsorted(layers, self.layers), np.searchsorted(others, self.others))
        shape = (len(self.rules), len(layers), len(others))
        for name in ("numerator", "denominator", "samples", "anywhere", "rows"):
            before = getattr(self, name)
            size, index = {
                "anywhere": (shape[::2], np.ix_(np.arange(shape[0]), old[1])),
                "rows": (shape[1:], np.ix_(*old)),
            }.get(name, (shape, np.ix_(np.arange(shape[0]), *old)))
            after = np.zeros(size, before.dtype)
            after[index] = before
            setattr(self, name, after)
        self.layers, self.others = layers, others
