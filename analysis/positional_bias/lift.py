"""Lift by bin: selections over expected selections, and the same for the attention."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import gammaincinv

from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.positional_bias.tables import LIFT
from indexscope.analysis.positional_bias.tally import Tally
from indexscope.analysis.positional_bias.totals import Totals
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.ranges import NOT_NEGATIVE
from indexscope.analysis.statistics.resampling import Array, interval, ratio

# With fewer selections (or fewer keys left out) than this by chance, resampled samples do not show their scatter.
FEW = 10.0


def label(axis: str, bin_: int) -> str:
    """What a bin holds, in words that fit an axis.

    >>> [label("distance", b) for b in (0, 1, 2, 5)], label("relative", 9)
    (['0', '1', '2-3', '16-31'], '90-100 %')
    """
    if axis == "relative":
        return f"{10 * bin_}-{10 * bin_ + 10} %"
    if bin_ <= 1:
        return str(bin_)
    return f"{2 ** (bin_ - 1)}-{2**bin_ - 1}"


class LiftBands:
    """Lift of every bin over all layers and in each, with bands by resampling samples, added up block by block.

    Args:
        axis: distance or relative.
        total: The dataset's sums.
        settings: The bootstrap.
    """

    def __init__(self, axis: str, total: Totals, settings: BootstrapSettings) -> None:
        self._axis, self._total, self._settings = axis, total, settings
        cells = (1 + len(total.layers)) * len(total.bins)
        self._resampled = np.zeros((4, settings.resamples, cells))
        self._reached = np.zeros((2, cells), dtype=np.int64)

    def add(self, own: Tally, counts: Array) -> None:
        """Take a block of samples, and how often each is drawn in each resample, [resamples, samples]."""
        sums = [all_cells(part) for part in (own.selections, own.expected, own.attention, own.attention_expected)]
        for resampled, part in zip(self._resampled, sums, strict=True):
            resampled += counts @ part
        self._reached += np.stack([(sums[1] > 0).sum(axis=0), (sums[3] > 0).sum(axis=0)])

    def rows(self) -> pl.DataFrame:
        """The frame ``lift`` of this axis."""
        total = self._total
        layers = [None, *total.layers.tolist()]
        cells = [(layer, int(bin_)) for layer in layers for bin_ in total.bins]
        parts = (total.selections, total.expected, total.attention, total.attention_expected, total.keys)
        selections, expected, attention, chance, keys = (all_cells(part[None])[0] for part in parts)
        columns: dict[str, object] = {
            "layer": [layer for layer, _ in cells],
            "axis": [self._axis] * len(cells),
            "bin": [bin_ for _, bin_ in cells],
            "label": [label(self._axis, bin_) for _, bin_ in cells],
        }
        band = self._banded(selections, expected, 0)
        columns |= _named(("lift", "ci_low", "ci_high"), self._widened(band, selections, expected, keys))
        names = ("attention_lift", "attention_ci_low", "attention_ci_high")
        columns |= _named(names, self._banded(attention, chance, 1))
        # Without an indexer nothing was selected or expected to be: unknown, not none.
        columns["selections"] = np.where(expected > 0, selections, np.nan)
        columns["expected"] = np.where(expected > 0, expected, np.nan)
        columns["n"] = self._reached[1]
        frame = pl.DataFrame(columns, schema_overrides=LIFT.schema, strict=False)
        return frame.with_columns(finite_or_null(*LIFT.floats)).filter(pl.col("n") > 0).select(*LIFT.schema)

    def _banded(self, top: Array, bottom: Array, kind: int) -> tuple[Array, Array, Array]:
        values = ratio(top, bottom)
        replicates = ratio(self._resampled[2 * kind], self._resampled[2 * kind + 1])
        low, high = interval(values, replicates, self._reached[kind], self._settings.confidence, NOT_NEGATIVE)
        return values, low, high

    def _widened(
        self, band: tuple[Array, Array, Array], selections: Array, expected: Array, keys: Array
    ) -> tuple[Array, Array, Array]:
        """The band, at least as wide as the exact interval of the rarer of selected and left-out keys where it is few.

        None selected in every sample, or none left out where k is nearly n, would otherwise look certain.
        """
        value, low, high = band
        confidence = self._settings.confidence
        rare = (expected < FEW) & (expected > 0)
        fewest, most = poisson_interval(selections, confidence)
        low = np.where(rare, np.minimum(low, ratio(fewest, expected)), low)
        high = np.where(rare, np.maximum(high, ratio(most, expected)), high)
        full = (keys - expected < FEW) & (keys > 0)
        fewest, most = poisson_interval(np.maximum(keys - selections, 0), confidence)
        low = np.where(full, np.minimum(low, ratio(np.maximum(keys - most, 0), expected)), low)
        high = np.where(full, np.maximum(high, ratio(keys - fewest, expected)), high)
        return value, low, high


def poisson_interval(count: Array, confidence: float) -> tuple[Array, Array]:
    """Exact bounds of the mean of a Poisson count (Garwood 1936); conservative for draws without replacement.

    >>> [round(float(bound[0]), 2) for bound in poisson_interval(np.array([0.0]), 0.95)]
    [0.0, 3.69]
    """
    tail = (1 - confidence) / 2
    low = np.where(count > 0, gammaincinv(np.maximum(count, 1e-9), tail), 0.0)
    return np.asarray(low), np.asarray(gammaincinv(count + 1, 1 - tail))


def _named(names: tuple[str, ...], arrays: tuple[Array, ...]) -> dict[str, object]:
    return dict(zip(names, arrays, strict=True))


def all_cells(sums: Array) -> Array:
    """[samples, layers, bins] to [samples, (1 + layers) x bins], all layers together first."""
    together = np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)
    return together.reshape(len(sums), -1)


def draws(counts: NDArray[np.uint16], first: int, size: int) -> Array:
    """How often each sample of a block is drawn, [resamples, samples of the block]."""
    return counts[:, first : first + size].astype(np.float64)
