"""Tables by sample as ratio estimates of their cells, with intervals from resampled samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.sums import column
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import Range
from indexscope.analysis.statistics.resampling import Array, bootstrap_ratios, interval, ratio


@dataclass(frozen=True)
class Estimate:
    """Ratios of sums over samples, one a cell, NaN where unknown; n counts the samples with weight."""

    value: Array
    low: Array
    high: Array
    n: NDArray[np.int64]


class Spread:
    """The rows of a table laid out as samples by cells.

    Args:
        frame: A table with the column ``sample``; rows of one sample and cell add up.
        keys: Columns that make a cell.
    """

    def __init__(self, frame: pl.DataFrame, keys: Sequence[str]) -> None:
        self._frame = frame.sort("sample", *keys)
        self.cells = self._frame.select(keys).unique().sort(keys)
        """The cells, in order."""
        samples, self._row = np.unique(self._frame["sample"].to_numpy(), return_inverse=True)
        numbered = self.cells.with_row_index("_cell")
        self._cell = self._frame.join(numbered, on=list(keys), how="left", maintain_order="left")["_cell"].to_numpy()
        self._shape = (len(samples), self.cells.height)

    def sums(self, value: str, weight: str = "") -> tuple[Array, Array]:
        """Sums of value x weight and of weight where the value is known, [samples, cells]; weight 1 without one."""
        values = column(self._frame, value)
        weights = column(self._frame, weight) if weight else np.ones_like(values)
        known = ~np.isnan(values) & (weights > 0)
        top, bottom = np.zeros((2, *self._shape))
        np.add.at(top, (self._row[known], self._cell[known]), (values * weights)[known])
        np.add.at(bottom, (self._row[known], self._cell[known]), weights[known])
        return top, bottom

    def estimate(self, value: str, weight: str, settings: BootstrapSettings, within: Range) -> Estimate:
        """The weighted mean of a column in each cell."""
        return estimate(*self.sums(value, weight), settings, within)


def estimate(top: Array, bottom: Array, settings: BootstrapSettings, within: Range) -> Estimate:
    """Ratios of the column sums of ``top`` and ``bottom`` [samples, cells], with intervals within their range."""
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    replicates = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
    n = (bottom > 0).sum(axis=0)
    return Estimate(values, *interval(values, replicates, n, settings.confidence, within), n)
