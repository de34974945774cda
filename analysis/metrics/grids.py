"""Sums of metrics over the rows of a feature table, by sample, layer and one more column: one pass over the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.statistics.resampling import Array

KEYS = ("sample", "layer", "head", "bucket")
#: Rows that are reduced at once, or those of one sample if they are more: it bounds the memory of a large table.
BLOCK = 1 << 17
#: Ids of an axis are looked up in a table if they spread over fewer values than this many times the rows.
SPREAD = 4


@dataclass(frozen=True)
class Grid:
    """Sums of metrics by sample, by layer and by the values of another column.

    Attributes:
        samples: Sample ids in increasing order.
        layers: Layer ids in increasing order; one entry, 0, where the table has no layers.
        others: Values of the other column in increasing order; one entry, 0, where there is none.
        numerator: Sums of value x weight, [metrics, samples, layers, others].
        denominator: Sums of weight, same shape.
        rows: Rows of the table in each cell, [samples, layers, others].
    """

    samples: NDArray[np.int64]
    layers: NDArray[np.int64]
    others: NDArray[np.int64]
    numerator: Array
    denominator: Array
    rows: NDArray[np.int64]


def grids(frame: pl.DataFrame, rules: Mapping[str, Ratio], others: Sequence[str]) -> Iterator[tuple[Grid, ...]]:
    """Sum a feature table's metrics, a bounded number of samples at a time.

    The rows of a sample are added one by one in the order of the table's keys. So the sums depend neither on the order
    of the rows nor on what other samples are in the table.

    Args:
        frame: Feature table, with all rows of its samples.
        rules: Name and rule of each metric, at least one.
        others: The other column of each grid, e.g. bucket; "" for none.

    Yields:
        For the next samples in increasing order, a grid for each of ``others``.
    """
    from indexscope.analysis.metrics.adding import add

    columns = list(dict.fromkeys(name for rule in rules.values() for name in _columns(rule) if name))
    wanted = np.array([[columns.index(n) if n else -1 for n in _columns(rule)] for rule in rules.values()], np.int64)
    for block in _blocks(frame):
        axes = {name: _axis(block, name) for name in ("sample", "layer", *others)}
        (samples, at_sample), (layers, at_layer) = axes["sample"], axes["layer"]
        above = at_sample * len(layers) + at_layer
        table = np.stack([column(block, name) for name in columns])
        places = [above * len(axes[other][0]) + axes[other][1] for other in others]
        sizes = [len(samples) * len(layers) * len(axes[other][0]) for other in others]
        starts = np.cumsum([0, *sizes])
        numerator, denominator = np.zeros((2, len(rules), starts[-1]))
        add(table, wanted, np.stack(places) + starts[:-1, None], numerator, denominator)
        found = []
        for number, other in enumerate(others):
            shape = (len(samples), len(layers), len(axes[other][0]))
            part = slice(starts[number], starts[number + 1])
            rows = np.bincount(places[number], minlength=sizes[number]).astype(np.int64).reshape(shape)
            top, bottom = (sums[:, part].reshape(len(rules), *shape) for sums in (numerator, denominator))
            found.append(Grid(samples, layers, axes[other][0], top, bottom, rows))
        yield tuple(found)


def column(frame: pl.DataFrame, name: str) -> Array:
    """A numeric column as float64 with NaN for null; a column that is not there is unknown throughout."""
    if name not in frame.columns:
        return np.full(frame.height, np.nan)
    return np.asarray(frame[name].cast(pl.Float64).to_numpy(), dtype=np.float64)


def _columns(rule: Ratio) -> tuple[str, str, str, str]:
    return rule.value, rule.minus, rule.weight, rule.over


def _blocks(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The table in the order of its keys, in parts that hold whole samples."""
    keys = [name for name in KEYS if name in frame.columns]
    if not _in_order(frame, keys):
        frame = frame.sort(keys)
    sample = frame["sample"].to_numpy()
    start = 0
    while start < frame.height:
        end = start + BLOCK
        if end < frame.height:
            end = int(np.searchsorted(sample, sample[end], side="left"))
            if end <= start:
                end = int(np.searchsorted(sample, sample[start], side="right"))
        yield frame.slice(start, end - start)
        start = end


def _in_order(frame: pl.DataFrame, keys: Sequence[str]) -> bool:
    """Whether rows ascend by the keys already, as extraction writes them."""
    tied = np.ones(max(frame.height - 1, 0), dtype=bool)
    for key in keys:
        values = frame[key].to_numpy()
        if (tied & (values[1:] < values[:-1])).any():
            return False
        tied &= values[1:] == values[:-1]
    return True


def _axis(frame: pl.DataFrame, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct values of a column in increasing order, and each row's place among them."""
    if name not in frame.columns:
        return np.zeros(1, np.int64), np.zeros(frame.height, np.int64)
    ids = frame[name].to_numpy().astype(np.int64)
    low, high = int(ids.min()), int(ids.max())
    if high - low >= SPREAD * len(ids) + 64:
        values, places = np.unique(ids, return_inverse=True)
        return values, places.astype(np.int64)
    present = np.bincount(ids - low) > 0
    return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[ids - low]
