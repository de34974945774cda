"""How many maps of each sample are of each kind: all that shares, agreement and their uncertainty need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering.pattern_types import TYPES
from indexscope.analysis.statistics.resampling import Array

_TYPES, _PAIRS = ("sample", "layer", "pattern_type"), ("sample", "cluster", "pattern_type")


@dataclass(frozen=True)
class Counts:
    """Maps by sample, which are resampled, and kind.

    Attributes:
        samples: Sample ids, increasing, [samples].
        layers: Layer ids, increasing.
        types: Maps of each pattern type, [samples, layers, types] in the order of TYPES.
        pairs: Maps of each cluster and pattern type over all layers, [samples, clusters, types].
    """

    samples: NDArray[np.int64]
    layers: tuple[int, ...]
    types: Array
    pairs: Array


class Counting:
    """Counts assignments part by part; nothing of a single map is kept.

    Args:
        clusters: Number of clusters.
    """

    def __init__(self, clusters: int) -> None:
        self._clusters = clusters
        self._types: list[pl.DataFrame] = []
        self._pairs: list[pl.DataFrame] = []

    def add(self, part: pl.DataFrame) -> None:
        """Count more assignments: sample, layer, cluster and pattern_type (an Enum of TYPES)."""
        kept = pl.col("pattern_type").to_physical()
        cells = part.with_columns(kept).group_by("layer", *_PAIRS).agg(maps=pl.len())
        self._types.append(cells.group_by(_TYPES).agg(pl.col("maps").sum()))
        self._pairs.append(cells.group_by(_PAIRS).agg(pl.col("maps").sum()))

    def counts(self) -> Counts:
        """All that was added."""
        types, pairs = pl.concat(self._types), pl.concat(self._pairs)
        samples, rows = np.unique(types["sample"].to_numpy(), return_inverse=True)
        layers, columns = np.unique(types["layer"].to_numpy(), return_inverse=True)
        by_type = _dense(types, rows, columns, (len(samples), len(layers), len(TYPES)))
        rows = np.searchsorted(samples, pairs["sample"].to_numpy())
        by_pair = _dense(pairs, rows, pairs["cluster"].to_numpy(), (len(samples), self._clusters, len(TYPES)))
        return Counts(samples.astype(np.int64), tuple(map(int, layers)), by_type, by_pair)


def _dense(
    cells: pl.DataFrame, rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int, int]
) -> Array:
    places = np.ravel_multi_index((rows, columns, cells["pattern_type"].to_numpy()), shape)
    return (
        np.bincount(places, cells["maps"].to_numpy(), int(np.prod(shape))).reshape(shape).astype(np.float64, copy=False)
    )
