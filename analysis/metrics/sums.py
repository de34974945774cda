"""Numerators and denominators of metrics by sample and layer: what aggregates, pairs and resamples exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metrics.metric import Ratio
from analysis.metrics.registry import REGISTRY
from analysis.statistics import Array, ratio

Features = Mapping[str, pl.DataFrame]
Cell = tuple[str, int | None]
PER_SAMPLE = {
    "metric": pl.String,
    "layer": pl.Int16,
    "sample": pl.Int32,
    "value": pl.Float64,
    "weight": pl.Float64,
}


@dataclass(frozen=True)
class Sums:
    """Ratio metrics by sample: the estimate of a cell is its column's numerators over its denominators.

    Attributes:
        samples: Sample ids in increasing order, [samples].
        cells: (metric, layer), layer None for all layers together, one per column.
        numerator: Sums of value x weight, [samples, cells]; 0 where a sample has nothing.
        denominator: Sums of weight, [samples, cells].
    """

    samples: NDArray[np.int64]
    cells: tuple[Cell, ...]
    numerator: Array
    denominator: Array

    def of(self, metrics: Sequence[str]) -> Sums:
        """The columns of some metrics."""
        kept = [place for place, (metric, _) in enumerate(self.cells) if metric in metrics]
        cells = tuple(self.cells[place] for place in kept)
        return Sums(self.samples, cells, self.numerator[:, kept], self.denominator[:, kept])

    def onto(self, samples: NDArray[np.int64], cells: Sequence[Cell]) -> Sums:
        """The same sums on other samples and cells, which must include these; 0 where there was nothing."""
        rows = np.searchsorted(samples, self.samples)
        place = {cell: column for column, cell in enumerate(cells)}
        columns = np.array([place[cell] for cell in self.cells], dtype=np.intp)
        numerator, denominator = np.zeros((2, len(samples), len(cells)))
        numerator[rows[:, None], columns] = self.numerator
        denominator[rows[:, None], columns] = self.denominator
        return Sums(samples, tuple(cells), numerator, denominator)


def join(parts: Sequence[Sums], features: Features | None = None) -> Sums:
    """Columns of several sums side by side, on all their samples. A cell may be in one part only.

    Args:
        parts: The sums.
        features: Feature tables, whose ``samples`` come in even where no part has weight for them.
    """
    listed = (features or {}).get("samples")
    ids = [part.samples for part in parts] + ([] if listed is None else [listed["sample"].to_numpy()])
    samples = np.unique(np.concatenate([np.empty(0, np.int64), *ids])).astype(np.int64)
    spread = [part.onto(samples, part.cells) for part in parts]
    empty = np.zeros((len(samples), 0))
    return Sums(
        samples,
        tuple(cell for part in spread for cell in part.cells),
        np.concatenate([empty, *(part.numerator for part in spread)], axis=1),
        np.concatenate([empty, *(part.denominator for part in spread)], axis=1),
    )


@dataclass(frozen=True)
class Grid:
    """Sums of one metric over the rows of a feature table, by the values of some of its columns.

    Attributes:
        axes: Values of each axis in increasing order.
        numerator: Sums of value x weight, one dimension an axis.
        denominator: Sums of weight, same shape.
    """

    axes: tuple[NDArray[np.int64], ...]
    numerator: Array
    denominator: Array


def ratio_metrics(features: Features, table: str) -> dict[str, Ratio]:
    """Metrics that a feature table gives rise to. Without an indexer nothing is "in effect", and those are left out."""
    dense = "indexer" not in features
    return {
        name: metric.rule
        for name, metric in REGISTRY.items()
        if isinstance(metric.rule, Ratio)
        and metric.rule.table == table
        and not (dense and metric.rule.weight == "queries_in_effect")
    }


def grids(frame: pl.DataFrame, rules: Mapping[str, Ratio], axes: Sequence[str]) -> dict[str, Grid]:
    """Sum a feature table's metrics by the values of some columns.

    Rows are added in the order of the table's keys, so that the result does not depend on the order of shards.

    Args:
        frame: Feature table.
        rules: Name and rule of each metric.
        axes: Columns to keep apart, e.g. sample and layer.

    Returns:
        A grid for each metric.
    """
    keys = [name for name in ("sample", "layer", "head", "bucket") if name in frame.columns]
    ordered = frame.sort(keys)
    values, places = zip(*(np.unique(ordered[axis].to_numpy(), return_inverse=True) for axis in axes), strict=True)
    shape = tuple(len(value) for value in values)
    flat = np.asarray(np.ravel_multi_index(places, shape) if frame.height else [], dtype=np.int64)
    axis_values = tuple(value.astype(np.int64) for value in values)
    size = int(np.prod(shape))
    result = {}
    for name, rule in rules.items():
        value = column(ordered, rule.value) - (column(ordered, rule.minus) if rule.minus else 0.0)
        weight = column(ordered, rule.weight) if rule.weight else np.ones(ordered.height)
        over = column(ordered, rule.over) if rule.over else np.ones(ordered.height)
        known = ~np.isnan(value) & ~np.isnan(over) & (weight > 0)
        sums = [np.bincount(flat[known], part[known], size) for part in (value * weight, over * weight)]
        top, bottom = (part.astype(np.float64).reshape(shape) for part in sums)
        result[name] = Grid(axis_values, top, bottom)
    return result


def column(frame: pl.DataFrame, name: str) -> Array:
    """A numeric column as float64 with NaN for null; a column that is not there is unknown throughout."""
    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    return np.asarray(frame[name].cast(pl.Float64).to_numpy(), dtype=np.float64)


def layered(samples: NDArray[np.int64], layers: Sequence[int], parts: Mapping[str, tuple[Array, Array]]) -> Sums:
    """Sums for all layers together and for each layer.

    Args:
        samples: Sample ids.
        layers: Layer ids; none for a metric without layers.
        parts: Metric to numerators and denominators, [samples, layers] ([samples, 1] without layers).
    """
    cells: list[Cell] = []
    tops: list[Array] = []
    bottoms: list[Array] = []
    for metric, (top, bottom) in parts.items():
        cells += [(metric, None), *((metric, layer) for layer in layers)]
        own = (top, bottom) if layers else (top[:, :0], bottom[:, :0])
        tops += [top.sum(axis=1, keepdims=True), own[0]]
        bottoms += [bottom.sum(axis=1, keepdims=True), own[1]]
    empty = np.zeros((len(samples), 0))
    return Sums(
        samples, tuple(cells), np.concatenate([empty, *tops], axis=1), np.concatenate([empty, *bottoms], axis=1)
    )


def table_sums(features: Features, table: str, metrics: Sequence[str] | None = None) -> Sums:
    """Sums by sample and layer of a feature table's metrics; none where the table is absent or empty."""
    rules = ratio_metrics(features, table)
    rules = {name: rule for name, rule in rules.items() if metrics is None or name in metrics}
    frame = features.get(table)
    if frame is None or frame.is_empty() or not rules:
        return join([])
    has_layers = "layer" in frame.columns
    found = grids(frame, rules, ("sample", "layer") if has_layers else ("sample",))
    axes = next(iter(found.values())).axes
    layers = axes[1].tolist() if has_layers else []
    parts = {
        name: (grid.numerator.reshape(len(axes[0]), -1), grid.denominator.reshape(len(axes[0]), -1))
        for name, grid in found.items()
    }
    return layered(axes[0], layers, parts)


def per_sample(sums: Sums) -> pl.DataFrame:
    """Sums as a table: metric, layer, sample, value, weight.

    sum(value x weight) / sum(weight) over samples is the metric again. A sample without weight has no row in a layer,
    and a null value with weight 0 over all layers, so that the table tells which samples were measured.
    """
    listed = (sums.denominator > 0) | np.array([layer is None for _, layer in sums.cells], dtype=bool)
    rows, columns = np.nonzero(listed.T)[::-1]
    value = ratio(sums.numerator, sums.denominator)[rows, columns]
    frame = pl.DataFrame(
        {
            "metric": [sums.cells[place][0] for place in columns],
            "layer": [sums.cells[place][1] for place in columns],
            "sample": sums.samples[rows],
            "value": value,
            "weight": sums.denominator[rows, columns],
        },
        schema_overrides=PER_SAMPLE,
    )
    return frame.cast(PER_SAMPLE).with_columns(pl.col("value").fill_nan(None))  # type: ignore[arg-type]


def from_per_sample(frame: pl.DataFrame) -> Sums:
    """The sums of a per-sample table, whatever the order of its rows."""
    known = frame.filter(pl.col("value").is_not_null() & (pl.col("weight") > 0))
    known = known.sort("metric", "layer", "sample", nulls_last=False)
    samples = np.unique(frame["sample"].to_numpy()).astype(np.int64)
    keys = known.select("metric", "layer").unique(maintain_order=True).with_row_index("column")
    columns = known.join(keys, on=["metric", "layer"], how="left", nulls_equal=True, maintain_order="left")["column"]
    at = (np.searchsorted(samples, known["sample"].to_numpy()), columns.to_numpy())
    weight = column(known, "weight")
    numerator, denominator = np.zeros((2, len(samples), keys.height))
    np.add.at(numerator, at, column(known, "value") * weight)
    np.add.at(denominator, at, weight)
    cells = tuple((str(metric), layer) for metric, layer in keys.select("metric", "layer").iter_rows())
    return Sums(samples, cells, numerator, denominator)
