"""What was kept, dropped and added by distance, relative position and kind of token, beside what chance would give."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.choices.bins import bin_label
from indexscope.analysis.choices.sums import QUANTITIES, Bins, ChoiceSums
from indexscope.analysis.choices.tables import BY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics import Array, bootstrap_ratios, interval, ratio

_COLUMNS = [name for name in BY.schema if name != "candidate"]
#: An expectation of less than this of a key is the rounding of a difference.
_NOTHING = 1e-6


def by_table(sums: ChoiceSums, settings: ComparisonSettings) -> pl.DataFrame:
    """The bins of every axis: over all layers with intervals, and in each layer without."""
    frames = [BY.empty().select(_COLUMNS)]
    for axis, bins in sums.bins().items():
        frames.append(_whole(axis, bins, settings))
        frames += [
            _rows(axis, int(layer), bins.by_layer[place], bins.layer_total[place])
            for place, layer in enumerate(bins.layers)
        ]
    return pl.concat(frames)


def _whole(axis: str, bins: Bins, settings: ComparisonSettings) -> pl.DataFrame:
    rows = _rows(axis, None, bins.by_sample.sum(axis=0), bins.sample_total.sum(axis=0))
    at = rows["bin"].to_numpy()
    columns = {"n": pl.Series((_of(bins.by_sample, "eligible") > 0).sum(axis=0)[at], dtype=BY.schema["n"])}
    for name in ("dropped", "added"):
        part, expected = _of(bins.by_sample, name)[:, at], _expected(bins.by_sample, name)[:, at]
        draws = bootstrap_ratios(part, expected, settings.resamples, settings.seed)
        value = ratio(part.sum(axis=0), expected.sum(axis=0))
        low, high = interval(value, draws, (expected > 0).sum(axis=0), settings.confidence)
        columns |= {f"{name}_ci_low": pl.Series(low), f"{name}_ci_high": pl.Series(high)}
    bounds = [name for name in columns if name != "n"]
    return rows.with_columns(**columns).with_columns(finite_or_null(*bounds)).select(_COLUMNS)


def _of(sums: Array, name: str) -> Array:
    return np.asarray(sums[..., QUANTITIES.index(name)])


def _expected(sums: Array, name: str) -> Array:
    expected = _of(sums, f"{name}_expected")
    return np.where(expected > _NOTHING, expected, 0.0)


def _rows(axis: str, layer: int | None, sums: Array, total: Array) -> pl.DataFrame:
    """The bins of one axis in which any key is eligible, without intervals.

    Args:
        axis: What the bins divide.
        layer: The layer; None for all.
        sums: [bins, quantities].
        total: Over all keys, [quantities].
    """
    size = len(sums)
    columns: dict[str, object] = {
        "layer": pl.Series([layer] * size, dtype=pl.Int16),
        "axis": [axis] * size,
        "bin": np.arange(size),
        "label": [bin_label(axis, bin_) for bin_ in range(size)],
        "eligible": _of(sums, "eligible"),
    }
    for name in ("kept", "dropped", "added"):
        columns |= {name: _of(sums, name), f"{name}_share": ratio(_of(sums, name), _of(total, name))}
    for name in ("dropped", "added"):
        expected = _expected(sums, name)
        columns |= {f"{name}_expected": expected, f"{name}_lift": ratio(_of(sums, name), expected)}
        columns[f"mass_{name}"] = ratio(_of(sums, f"mass_{name}"), _of(total, "attended"))
    frame = pl.DataFrame(columns).filter(pl.col("eligible") > 0)
    absent = [pl.lit(None, kind).alias(name) for name, kind in BY.schema.items() if name not in frame.columns]
    frame = frame.with_columns(*absent).select(_COLUMNS).cast({name: BY.schema[name] for name in _COLUMNS})
    return frame.with_columns(finite_or_null(*(name for name in _COLUMNS if BY.schema[name] == pl.Float64)))
