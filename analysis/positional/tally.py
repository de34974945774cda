"""The ``positions`` table of one axis as arrays, a block of samples at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metrics.blocks import sample_blocks
from analysis.metrics.stream import Sharded
from analysis.metrics.sums import column
from analysis.statistics import Array

BINS = {"distance": 64, "relative": 10}
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Selections and attention with what chance gives, each [samples, layers, bins]; 0 where a sample has no row.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        bins: Bins, increasing.
        selections: Keys selected; 0 for models without an indexer.
        expected: Selections that a random selector of the same size would make.
        attention: Head-mean attention.
        attention_expected: Attention if it were uniform.
        queries: Queries that were counted, [samples, layers].
    """

    samples: Ids
    layers: Ids
    bins: Ids
    selections: Array
    expected: Array
    attention: Array
    attention_expected: Array
    queries: Array


def tally(frame: pl.DataFrame, layers: Ids | None = None, bins: Ids | None = None) -> Tally:
    """Arrays of one axis' rows of the ``positions`` table, whatever the order of the rows.

    Args:
        frame: The rows.
        layers: Layers to spread over, increasing, all that occur among them; by default those that occur.
        bins: The same of bins.
    """
    samples, sample = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    layers = np.unique(frame["layer"].to_numpy()).astype(np.int64) if layers is None else layers
    bins = np.unique(frame["bin"].to_numpy()).astype(np.int64) if bins is None else bins
    layer = np.searchsorted(layers, frame["layer"].to_numpy())
    places = (sample, layer, np.searchsorted(bins, frame["bin"].to_numpy()))
    shape = (len(samples), len(layers), len(bins))

    def spread(name: str) -> Array:
        array = np.zeros(shape)
        array[places] = np.nan_to_num(column(frame, name))
        return array

    queries = np.zeros(shape[:2])
    queries[places[:2]] = np.nan_to_num(column(frame, "queries"))
    names = ("selections", "expected_selections", "attention_mass", "attention_expected")
    sums = [spread(name) for name in names]
    return Tally(samples.astype(np.int64), layers, bins, sums[0], sums[1], sums[2], sums[3], queries)


def blocks(features: Mapping[str, pl.DataFrame] | Sharded) -> Iterator[pl.DataFrame]:
    """The ``positions`` table in blocks of samples, whatever the shards."""
    for block in sample_blocks(features, ["positions"]):
        yield block["positions"]


def axes_of(block: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each axis, distances first."""
    for axis in BINS:
        own = block.filter(pl.col("axis") == axis)
        if own.height:
            yield axis, own
