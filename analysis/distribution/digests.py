"""Quantiles of whatever many samples have, from digests that merge.

The t-digests of all samples merge into one whose resolution is twenty times theirs, so that merging adds next to
nothing to their own error (rank error below 1 % at the median and smaller in the tails; the extremes are exact).
"""

from __future__ import annotations

from collections.abc import Iterable

import datasketches

# Of the merged digest; the extraction's digests have 100.
COMPRESSION = 4000
#: Samples whose digests are merged with each other before they go into the whole: merging into a large one is slow.
TOGETHER = 16


class Digest:
    """A merged t-digest. It depends on what is added and in which order, and on nothing else."""

    def __init__(self) -> None:
        self._merged = datasketches.tdigest_float(COMPRESSION)
        self._waiting: list[datasketches.tdigest_float] = []

    @staticmethod
    def read(serialised: bytes) -> datasketches.tdigest_float:
        """A digest as a table holds it."""
        return datasketches.tdigest_float.deserialize(serialised)

    def add(self, serialised: bytes) -> None:
        """Take in one digest."""
        self._waiting.append(self.read(serialised))
        if len(self._waiting) == TOGETHER:
            self.merged()

    def merged(self) -> datasketches.tdigest_float:
        """All that was added."""
        if self._waiting:
            self._merged.merge(union(self._waiting))
            self._waiting = []
        return self._merged


def union(parts: Iterable[datasketches.tdigest_float]) -> datasketches.tdigest_float:
    """Digests merged in their order."""
    merged = datasketches.tdigest_float(COMPRESSION)
    for part in parts:
        merged.merge(part)
    return merged
