"""The distribution of one group of index scores: exact moments and a quantile sketch, both mergeable.

The sketch is a t-digest (mergeable, deterministic, tight in the tails; Dunning and Ertl 2019). Feeding it score by
score would cost more than all other features together, so scores are first counted by their leading bits (sign,
exponent and 8 bits of the mantissa): every score is known to within 0.2 % of itself, zeros and the two extremes
exactly, and no count is lost.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

COMPRESSION = 100
# Rank errors below 0.5 % in the middle, at 8 bytes each.
CENTROIDS = 160
GROUPS = ("selected", "unselected")
KEPT_BITS = 17
"""Leading bits of a float32 score that a bin keeps: 1 of sign, 8 of exponent, 8 of mantissa."""
BINS = 1 << KEPT_BITS
_HEAVIEST = 2**32 - 1


@dataclass
class ScoreSketch:
    """Distribution of one group of index scores of one layer and sample.

    Attributes:
        count: Scores.
        mean: Their mean.
        m2: Sum of squared deviations from it.
        minimum: Smallest score.
        maximum: Largest score.
        zeros: Scores of exactly zero.
        histogram: Scores by their leading bits, [BINS]; of the filled bins alone, once they are known.
        filled: Bins that hold something; None while scores are added.
    """

    count: int = 0
    mean: float = 0.0
    m2: float = 0.0
    minimum: float = np.inf
    maximum: float = -np.inf
    zeros: int = 0
    histogram: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    filled: NDArray[np.int64] | None = None

    def add(self, moments: NDArray[np.float64], centre: float) -> None:
        """Add scores known by their moments; merged as in Chan et al. 1979.

        Args:
            moments: Count, sum and sum of squares about the centre, minimum, maximum, zeros.
            centre: Any number near the scores.
        """
        count, total, squares, minimum, maximum, zeros = moments.tolist()
        if not count:
            return
        mean = centre + total / count
        merged = self.count + count
        shift = mean - self.mean
        self.m2 += max(squares - total * total / count, 0.0) + shift**2 * self.count * count / merged
        self.mean += shift * count / merged
        self.count = int(merged)
        self.minimum, self.maximum = min(self.minimum, minimum), max(self.maximum, maximum)
        self.zeros += int(zeros)

    def pack(self) -> None:
        """Keep the bins that hold something, once nothing is added any more: few do, of the 128 thousand."""
        self.filled = np.flatnonzero(self.histogram)
        self.histogram = self.histogram[self.filled]

    def serialize(self) -> bytes:
        """The scores as a serialised ``datasketches.tdigest_float``."""
        if self.filled is None:
            self.pack()
        assert self.filled is not None
        return self.digest(bin_values(self.filled), self.histogram)

    def digest(self, values: NDArray[np.float64], counts: NDArray[np.int64]) -> bytes:
        """Counted values of a group with these extremes, as ``serialize`` writes them."""
        values = np.clip(values, self.minimum, self.maximum)
        order = np.argsort(values, kind="stable")
        return digest_bytes(values[order], counts[order], self.minimum, self.maximum)


def digest_bytes(values: NDArray[np.float64], counts: NDArray[np.int64], minimum: float, maximum: float) -> bytes:
    """Values, ascending, each as often as counted, as a serialised ``datasketches.tdigest_float``."""
    return tdigest_bytes(*compressed(*_ends_apart(values, counts, maximum)), minimum, maximum)


def _ends_apart(
    values: NDArray[np.float64], weights: NDArray[np.int64], maximum: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The smallest and the largest score as centroids of their own, exact, as any t-digest has them."""
    values, weights = (np.concatenate([part[:1], part, part[-1:]]) for part in (values, weights))
    weights[0] = weights[-1] = 1
    weights[1] -= 1
    weights[-2] -= 1
    values[-1] = maximum
    # A single score is both of them.
    weights[-1] += min(weights[1], 0)
    return values[weights > 0], weights[weights > 0]


def compressed(
    values: NDArray[np.float64], weights: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Merge ascending centroids to about CENTROIDS, narrow in the tails.

    Centroids whose middle rank q falls into the same unit of k(q) = (CENTROIDS / pi) asin(2 q - 1) become one: scale
    function k_1 of Dunning and Ertl 2019. In the middle one holds 1 % of the scores, or a single value. A value that
    alone holds more (zero, mostly) stays apart from its neighbours: its first and last score become centroids of
    their own, so that no interpolation reaches into it.
    """
    total = weights.sum()
    middle = (np.cumsum(weights) - weights / 2) / total
    unit = np.floor(CENTROIDS / np.pi * np.arcsin(2 * middle - 1)).astype(np.int64)
    unit[0], unit[-1] = -CENTROIDS, CENTROIDS
    spike = (weights > total / CENTROIDS) & (weights > 2)
    begins = spike.copy()
    begins[0] = True
    begins[1:] |= (unit[1:] != unit[:-1]) | spike[:-1]
    first = np.flatnonzero(begins)
    merged = np.add.reduceat(weights, first)
    means = np.add.reduceat(values * weights, first) / merged
    pieces = np.where(spike[first], 3, 1)
    last = np.cumsum(pieces) - 1
    spread = np.where(spike[first], 1, merged)
    split = np.repeat(spread, pieces)
    split[last[pieces == 3] - 1] = merged[pieces == 3] - 2
    return np.repeat(means, pieces), split


def bin_values(bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """The middle of each bin; zero for the bins that hold zero."""
    dropped = 32 - KEPT_BITS
    lower = (bins.astype(np.uint32) << dropped) | np.uint32(1 << (dropped - 1))
    # Bins of exponent 0 hold zero and numbers too small to matter.
    return np.where((bins >> 8) & 0xFF == 0, 0.0, lower.view(np.float32).astype(np.float64))


def tdigest_bytes(values: NDArray[np.float64], weights: NDArray[np.int64], minimum: float, maximum: float) -> bytes:
    """A t-digest with these centroids in the format of Apache DataSketches (C++, ``tdigest<float>``, version 1).

    Layout, little-endian: 2 preamble longs, version 1, sketch type 20, k as uint16, flags (0), 2 unused bytes, number
    of centroids and of buffered values as uint32, minimum and maximum as float, then centroids as float and uint32.

    Args:
        values: Centroids, ascending.
        weights: Their weights; one above 2^32 becomes several centroids.
        minimum: Smallest value.
        maximum: Largest value.
    """
    parts = np.maximum(-(-weights // _HEAVIEST), 1)
    centroids = np.empty(int(parts.sum()), dtype=np.dtype([("value", "<f4"), ("weight", "<u4")]))
    centroids["value"] = np.repeat(values, parts)
    centroids["weight"] = np.repeat(weights // parts, parts)
    centroids["weight"][np.cumsum(parts) - 1] += (weights - weights // parts * parts).astype(np.uint32)
    header = struct.pack("<BBBHBHIIff", 2, 1, 20, COMPRESSION, 0, 0, len(centroids), 0, minimum, maximum)
    return header + centroids.tobytes()
