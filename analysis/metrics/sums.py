"""Numerators and denominators of metrics by sample and layer: what aggregates, pairs and resamples exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.grids import Grid, grids
from indexscope.analysis.metrics.grids import column as column
from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.tables import PER_SAMPLE
from indexscope.analysis.statistics.resampling import Array, ratio

Features = Mapping[str, pl.DataFrame]
Cell = tuple[str, int | None]


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


def ratio_metrics(features: Features | Sharded, table: str) -> dict[str, Ratio]:
    """Metrics that a feature table gives rise to. Without an indexer nothing is "in effect", and those are left out."""
    dense = "indexer" not in features
    return {
        name: metric.rule
        for name, metric in REGISTRY.items()
        if isinstance(metric.rule, Ratio)
        and metric.rule.table == table
        and not (dense and metric.rule.weight == "queries_in_effect")
    }


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


class TableSums:
    """Sums by sample and layer of one feature table's metrics, collected part by part.

    Args:
        rules: Name and rule of each metric.
    """

    def __init__(self, rules: Mapping[str, Ratio]) -> None:
        self.rules = rules
        self._parts: list[Grid] = []
        self._layered = False

    def add(self, grid: Grid, layered: bool) -> None:
        """Take in the sums of more samples.

        Args:
            grid: Without another column.
            layered: Whether its table has layers.
        """
        # A grid is a view of an array that holds the other grids too, which are much larger.
        sums = (grid.numerator.copy(), grid.denominator.copy())
        self._parts.append(replace(grid, numerator=sums[0], denominator=sums[1]))
        self._layered |= layered

    def sums(self) -> Sums:
        """All samples' sums; no cells where there were no rows."""
        if not self._parts or not self.rules:
            return join([])
        samples = np.unique(np.concatenate([part.samples for part in self._parts]))
        layers = np.unique(np.concatenate([part.layers for part in self._parts]))
        numerator, denominator = np.zeros((2, len(self.rules), len(samples), len(layers)))
        for part in self._parts:
            at = np.ix_(
                np.arange(len(self.rules)), np.searchsorted(samples, part.samples), np.searchsorted(layers, part.layers)
            )
            numerator[at] += part.numerator[..., 0]
            denominator[at] += part.denominator[..., 0]
        parts = dict(zip(self.rules, zip(numerator, denominator, strict=True), strict=True))
        return layered(samples, layers.tolist() if self._layered else [], parts)


def table_sums(features: Features | Sharded, table: str, metrics: Sequence[str] | None = None) -> Sums:
    """Sums by sample and layer of a feature table's metrics, read shard by shard; none where it is absent or empty."""
    rules = {n: rule for n, rule in ratio_metrics(features, table).items() if metrics is None or n in metrics}
    found = TableSums(rules)
    for shard in shards(features, [table]) if rules else ():
        frame = shard.get(table)
        if frame is not None and not frame.is_empty():
            for (grid,) in grids(frame, rules, [""]):
                found.add(grid, "layer" in frame.columns)
    return found.sums()


def per_sample(sums: Sums) -> pl.DataFrame:
    """Sums as a table: metric, layer, sample, value, weight.

    sum(value x weight) / sum(weight) over samples is the metric again. A sample without weight has no row in a layer,
    and a null value with weight 0 over all layers, so that the table tells which samples were measured.
    """
    listed = (sums.denominator > 0) | np.array([layer is None for _, layer in sums.cells], dtype=bool)
    columns, rows = np.nonzero(listed.T)
    cells = pl.DataFrame(
        {"metric": [metric for metric, _ in sums.cells], "layer": [layer for _, layer in sums.cells]},
        schema={"metric": PER_SAMPLE.schema["metric"], "layer": PER_SAMPLE.schema["layer"]},
    )
    weight = sums.denominator[rows, columns]
    value = ratio(sums.numerator[rows, columns], weight)
    return cells[columns].with_columns(
        pl.Series("sample", sums.samples[rows], dtype=PER_SAMPLE.schema["sample"]),
        pl.Series("value", value, dtype=PER_SAMPLE.schema["value"]).fill_nan(None),
        pl.Series("weight", weight, dtype=PER_SAMPLE.schema["weight"]),
    )


def from_per_sample(frame: pl.DataFrame) -> Sums:
    """The sums of a per-sample table, whatever the order of its rows."""
    samples = np.unique(frame["sample"].to_numpy()).astype(np.int64)
    known = frame.filter(pl.col("value").is_not_null() & (pl.col("weight") > 0))
    keys = known.select("metric", "layer").unique().sort("metric", "layer", nulls_last=False)
    names = keys["metric"].unique(maintain_order=True).to_list()
    # Integers in place of words: a dataset's table has millions of rows.
    codes = known["metric"].cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
    pairs = _pairs(codes, known["layer"])
    cells = tuple((str(metric), layer) for metric, layer in keys.iter_rows())
    listed = _pairs(np.array([names.index(metric) for metric, _ in cells], dtype=np.int64), keys["layer"])
    place = np.searchsorted(samples, known["sample"].to_numpy()) * len(cells) + np.searchsorted(listed, pairs)
    weight = column(known, "weight")
    numerator, denominator = (
        np.bincount(place, part, len(samples) * len(cells)).astype(np.float64).reshape(len(samples), len(cells))
        for part in (column(known, "value") * weight, weight)
    )
    return Sums(samples, cells, numerator, denominator)


def cumulative(sums: Sums) -> Sums:
    """From sums in each bucket (a cell's second part) those of each bucket and all before it.

    A sample that ends before a bucket keeps what it has, as it does in a study of that length.
    """
    tops, bottoms = np.zeros_like(sums.numerator), np.zeros_like(sums.denominator)
    for metric in dict.fromkeys(name for name, _ in sums.cells):
        own = [(bucket, place) for place, (name, bucket) in enumerate(sums.cells) if name == metric]
        places = [place for _, place in sorted(own, key=lambda pair: pair[0] or 0)]
        tops[:, places] = np.cumsum(sums.numerator[:, places], axis=1)
        bottoms[:, places] = np.cumsum(sums.denominator[:, places], axis=1)
    return Sums(sums.samples, sums.cells, tops, bottoms)


def _pairs(metrics: NDArray[np.int64], layers: pl.Series) -> NDArray[np.int64]:
    """One number for a metric and a layer, ordered by both, no layer before all layers."""
    numbered = layers.cast(pl.Int64).fill_null(-(1 << 15) - 1).to_numpy().astype(np.int64)
    return metrics * (1 << 17) + numbered + (1 << 16)
