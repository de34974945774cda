"""Sums of features by bucket."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.kernels.compiled import exact


@exact
def add_by_bucket(
    features: NDArray[np.float32],
    bucket: NDArray[np.int64],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None:
    """Add features [names, rows, queries] to sums and counts [names, rows, buckets]; NaN is left out of both."""
    for name in range(features.shape[0]):
        for row in range(features.shape[1]):
            for i in range(features.shape[2]):
                value = features[name, row, i]
                if value == value:
                    sums[name, row, bucket[i]] += value
                    counts[name, row, bucket[i]] += 1
