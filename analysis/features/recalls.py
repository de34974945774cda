"""How recall lies over the single queries of a sample: means by bucket hide the few that a selection fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.features.sketch import digest_bytes
from indexscope.columns import of, table_of

RECALLS = table_of(
    "sample, layer, bucket",
    "sample layer bucket",
    of(pl.Int32, "queries", queries="Queries in effect whose recall is known."),
    of(pl.Float32, "share", lowest="Smallest selection_recall among them."),
    of(pl.Int32, "tokens", position="Position of the first query that has it, counted from 0."),
    of(pl.Binary, sketch="Serialised datasketches.tdigest_float of selection_recall."),
)


class Recalls:
    """Keeps selection_recall of every query of a layer, 4 bytes each, until its sequence is complete."""

    def __init__(self) -> None:
        self._places: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float32]] = []

    def add(self, recall: NDArray[np.float32], position: NDArray[np.int64], bucket: NDArray[np.int64]) -> None:
        """Take in one chunk: recall [batch, queries], NaN where it does not count; positions and buckets [queries]."""
        if recall.size and not np.isnan(recall).all():
            self._values.append(recall.copy())
            self._places.append(np.stack([position, bucket]))

    def rows(self) -> Iterator[tuple[int, int, int, float, int, bytes]]:
        """Item of the batch, bucket, queries, lowest, its position and the digest, where there is a query."""
        if not self._values:
            return
        (position, bucket), values = (np.concatenate(parts, axis=1) for parts in (self._places, self._values))
        for item, recall in enumerate(values):
            known = ~np.isnan(recall)
            for one in np.unique(bucket[known]).tolist():
                own = known & (bucket == one)
                place = int(np.argmin(np.where(own, recall, np.inf)))
                ordered, counts = np.unique(recall[own].astype(np.float64), return_counts=True)
                digest = digest_bytes(ordered, counts, ordered[0], ordered[-1])
                yield item, one, int(counts.sum()), float(recall[place]), int(position[place]), digest
