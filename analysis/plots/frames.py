"""Small readings of result frames that several figures share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One metric of one model along the layers: value and confidence interval, NaN where unknown."""

    layer: Array
    value: Array
    low: Array
    high: Array
    n: int
    rows: pl.DataFrame


def values(frame: pl.DataFrame, column: str) -> Array:
    """A numeric column as float64, with NaN for null and for anything infinite."""
    array = frame[column].cast(pl.Float64).to_numpy().astype(np.float64)
    return np.where(np.isfinite(array), array, np.nan)


def by_layer(metrics: pl.DataFrame, metric: str) -> Series | None:
    """One metric of one model (or of all: filter first) by layer, or None where no layer has it."""
    rows = metrics.filter((pl.col("metric") == metric) & pl.col("layer").is_not_null() & pl.col("value").is_finite())
    if rows.is_empty():
        return None
    rows = rows.sort("layer")
    return Series(
        values(rows, "layer"),
        values(rows, "value"),
        values(rows, "ci_low"),
        values(rows, "ci_high"),
        largest(rows, "n"),
        rows,
    )


def overall(metrics: pl.DataFrame, metric: str) -> tuple[float, float, float] | None:
    """Value, lower and upper bound (NaN where unknown) of a metric over all layers, or None where it is absent."""
    rows = metrics.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite())
    if rows.is_empty():
        return None
    return float(values(rows, "value")[0]), float(values(rows, "ci_low")[0]), float(values(rows, "ci_high")[0])


def sample_count(metrics: pl.DataFrame) -> int:
    """The largest number of samples behind any row (the n of a timing counts its repeats); 0 where there is none."""
    return largest(metrics.filter(pl.col("unit").ne_missing("ms")), "n")


def largest(frame: pl.DataFrame, column: str) -> int:
    """The largest whole number of a column; 0 where there is none."""
    found = frame[column].max() if frame.height else None
    return found if isinstance(found, int) else 0


def spread(values_in: list[int], limit: int) -> list[int]:
    """At most ``limit`` of the sorted values, first and last kept, evenly spaced between."""
    ordered = sorted(set(values_in))
    if len(ordered) <= limit:
        return ordered
    places = np.linspace(0, len(ordered) - 1, limit).round().astype(int)
    return [ordered[int(place)] for place in places]
