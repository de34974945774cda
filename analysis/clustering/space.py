"""Where distances between attention maps are taken: every feature from 0 to 1, so that no outlier decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from indexscope.analysis.clustering.rows import FEATURES
from indexscope.analysis.statistics.resampling import Array

# Between these quantiles of the fitted rows runs a feature whose range is not known; what lies beyond is at its end.
ENDS = (0.02, 0.98)
#: Largest value that a feature can have: all are shares but reach, which is 2 where all attention is on the first key.
_LARGEST = dict.fromkeys(FEATURES, 1.0) | {"reach": 2.0}


@dataclass(frozen=True)
class Space:
    """Brings features to 0 ... 1, each row by itself.

    Nothing is divided by how much a feature varies: one which hardly does cannot set clusters apart, and a few
    outliers neither stretch the scale of the others nor lie further out than any feature can be.

    Attributes:
        low: What becomes 0, [features].
        width: How far above it 1 is, [features].
    """

    low: Array
    width: Array

    def apply(self, features: Array) -> Array:
        """Places of features, [rows, features] each; none depends in any digit on the other rows."""
        return np.ascontiguousarray(np.clip((np.asarray(features, dtype=np.float64) - self.low) / self.width, 0.0, 1.0))


def space_of(features: Array, names: Sequence[str]) -> Space:
    """The space of some rows.

    Args:
        features: [rows, features], finite, one row at least.
        names: Names of the features. Those in FEATURES have the range that they can have, others the one that they
            have in these rows, between their 2nd and 98th percentile.
    """
    low, high = np.quantile(features, ENDS, axis=0)
    # A feature that nearly all rows share one value of is told apart by the others.
    least, most = features.min(axis=0), features.max(axis=0)
    low, high = np.where(high > low, low, least), np.where(high > low, high, most)
    width = np.where(high > low, high - low, 1.0)
    known = np.array([name in _LARGEST for name in names])
    largest = np.array([_LARGEST.get(name, 1.0) for name in names])
    return Space(np.where(known, 0.0, low), np.where(known, largest, width))
