"""Lift by bin: selections over expected selections, and the same for the attention."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.metrics.summary import finite_or_null
from analysis.positional.tally import Tally
from analysis.settings import BootstrapSettings
from analysis.statistics import Array, bootstrap_ratios, interval, ratio

LIFT = {
    "layer": pl.Int16,
    "axis": pl.String,
    "bin": pl.Int32,
    "label": pl.String,
    "lift": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "attention_lift": pl.Float64,
    "attention_ci_low": pl.Float64,
    "attention_ci_high": pl.Float64,
    "selections": pl.Float64,
    "expected": pl.Float64,
    "n": pl.Int32,
}


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


def lift_rows(axis: str, own: Tally, settings: BootstrapSettings) -> pl.DataFrame:
    """Lift of every bin over all layers (layer null) and in each, with bands by resampling samples."""
    layers = [None, *own.layers.tolist()]
    cells = [(layer, int(bin_)) for layer in layers for bin_ in own.bins]
    selections, expected = _cells(own.selections), _cells(own.expected)
    chance = _cells(own.attention_expected)
    columns: dict[str, object] = {
        "layer": [layer for layer, _ in cells],
        "axis": [axis] * len(cells),
        "bin": [bin_ for _, bin_ in cells],
        "label": [label(axis, bin_) for _, bin_ in cells],
    }
    columns |= _named(("lift", "ci_low", "ci_high"), _banded(selections, expected, settings))
    names = ("attention_lift", "attention_ci_low", "attention_ci_high")
    columns |= _named(names, _banded(_cells(own.attention), chance, settings))
    # Without an indexer nothing was selected or expected to be: unknown, not none.
    known = expected.sum(axis=0) > 0
    columns["selections"] = np.where(known, selections.sum(axis=0), np.nan)
    columns["expected"] = np.where(known, expected.sum(axis=0), np.nan)
    columns["n"] = (chance > 0).sum(axis=0)
    frame = pl.DataFrame(columns, schema_overrides=LIFT, strict=False)
    numbers = [name for name, kind in LIFT.items() if kind == pl.Float64]
    return frame.with_columns(finite_or_null(*numbers)).filter(pl.col("n") > 0).select(*LIFT)


def _named(names: tuple[str, ...], arrays: tuple[Array, ...]) -> dict[str, object]:
    return dict(zip(names, arrays, strict=True))


def _cells(sums: Array) -> Array:
    """[samples, layers, bins] to [samples, (1 + layers) x bins], all layers together first."""
    together = np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)
    return together.reshape(len(sums), -1)


def _banded(top: Array, bottom: Array, settings: BootstrapSettings) -> tuple[Array, Array, Array]:
    values = ratio(top.sum(axis=0), bottom.sum(axis=0))
    replicates = bootstrap_ratios(top, bottom, settings.resamples, settings.seed)
    low, high = interval(values, replicates, (bottom > 0).sum(axis=0), settings.confidence)
    return values, low, high
