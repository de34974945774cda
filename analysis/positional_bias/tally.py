"""The ``positions`` table as arrays, a block of samples at a time, and its sums along either axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.blocks import sample_blocks
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.sums import column
from indexscope.analysis.statistics.resampling import Array

#: Distances below 32 are bins 0 to 5; the oldest tenth of E_t is relative bin 0.
RECENT_BINS = 5
OLDEST_BIN = 0
#: Bins of each axis at most. A part is a distance bin b, as 2 b; from distance 32 on the oldest tenth of E_t is a part
#: of its own, 2 b + 1.
BINS = {"distance": 64, "relative": 10, "parts": 128}
Ids = NDArray[np.int64]
SUMS = ("selections", "expected", "attention", "attention_expected")


@dataclass(frozen=True)
class Tally:
    """Selections and attention with what chance gives, each [samples, layers, bins]; 0 where a sample has no row.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        bins: Bins of an axis of `BINS`, increasing.
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

    @property
    def sums(self) -> tuple[Array, ...]:
        """The four sums, in the order of `SUMS`."""
        return self.selections, self.expected, self.attention, self.attention_expected


@dataclass(frozen=True)
class Crossed:
    """The same by distance bin and relative bin.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        distances: Distance bins, increasing.
        sums: The sums of `SUMS`, [4, samples, layers, distances, 10].
        queries: Queries that were counted, [samples, layers].
    """

    samples: Ids
    layers: Ids
    distances: Ids
    sums: Array
    queries: Array

    def along(self, axis: str) -> Tally:
        """Sums of the bins of an axis."""
        if axis == "distance":
            bins, sums = self.distances, self.sums.sum(axis=-1)
        elif axis == "relative":
            bins, sums = np.arange(BINS[axis]), self.sums.sum(axis=-2)
        else:
            bins, sums = self._parts()
        selections, expected, attention, even = sums
        where = (self.samples, self.layers, bins.astype(np.int64))
        return Tally(*where, selections, expected, attention, even, self.queries)

    def _parts(self) -> tuple[Ids, Array]:
        far = self.distances > RECENT_BINS
        near, beyond = self.sums[..., ~far, :].sum(axis=-1), self.sums[..., far, :]
        oldest = beyond[..., OLDEST_BIN]
        others = np.delete(beyond, OLDEST_BIN, axis=-1).sum(axis=-1)
        pairs = np.stack([others, oldest], axis=-1).reshape(*others.shape[:-1], -1)
        bins = (2 * self.distances[far, None] + np.arange(2)).ravel()
        return np.r_[2 * self.distances[~far], bins], np.concatenate([near, pairs], axis=-1)


def tally(frame: pl.DataFrame, layers: Ids | None = None, distances: Ids | None = None) -> Crossed:
    """Arrays of the rows of the ``positions`` table, whatever the order of the rows.

    Args:
        frame: The rows.
        layers: Layers to spread over, increasing, all that occur among them; by default those that occur.
        distances: The same of distance bins.
    """
    samples, sample = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    layers = np.unique(frame["layer"].to_numpy()).astype(np.int64) if layers is None else layers
    distances = np.unique(frame["distance"].to_numpy()).astype(np.int64) if distances is None else distances
    layer = np.searchsorted(layers, frame["layer"].to_numpy())
    distance = np.searchsorted(distances, frame["distance"].to_numpy())
    places = (sample, layer, distance, frame["relative"].to_numpy())
    sums = np.zeros((len(SUMS), len(samples), len(layers), len(distances), BINS["relative"]))
    names = ("selections", "expected_selections", "attention_mass", "attention_expected")
    for total, name in zip(sums, names, strict=True):
        total[places] = np.nan_to_num(column(frame, name))
    queries = np.zeros(sums.shape[1:3])
    queries[places[:2]] = np.nan_to_num(column(frame, "queries"))
    return Crossed(samples.astype(np.int64), layers, distances, sums, queries)


def blocks(features: Mapping[str, pl.DataFrame] | Sharded) -> Iterator[pl.DataFrame]:
    """The ``positions`` table in blocks of samples, whatever the shards."""
    for block in sample_blocks(features, ["positions"]):
        yield block["positions"]
