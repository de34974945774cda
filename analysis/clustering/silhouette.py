"""Silhouettes of several groupings of the same rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact
from indexscope.analysis.statistics.resampling import Array, ratio


def silhouettes(rows: Array, labels: NDArray[np.int64]) -> Array:
    """The silhouette of each row in each grouping (Rousseeuw 1987): (b - a) / max(a, b).

    a is the mean distance to the other rows of its cluster, b the least mean distance to those of another; 0 for a row
    that is alone. Distances are computed once for all groupings, and never held at once.

    Args:
        rows: [rows, features], finite.
        labels: Clusters from 0, [rows, groupings].

    Returns:
        [rows, groupings]; NaN where a grouping has one cluster, or one for each row.
    """
    count, groupings = labels.shape
    clusters = int(labels.max(initial=0)) + 1
    sizes = np.array([np.bincount(own, minlength=clusters) for own in labels.T], dtype=np.int64)
    sums = _sums(np.ascontiguousarray(rows.T), np.ascontiguousarray(labels.T), clusters)
    own = np.arange(groupings)[:, None], np.arange(count), labels.T
    within = ratio(sums[own], sizes[own[0], labels.T] - 1)
    means = ratio(sums, sizes[:, None])
    means[own] = np.nan
    other = np.nanmin(means, axis=2, initial=np.inf)
    other[np.isinf(other)] = np.nan
    found = np.nan_to_num(ratio(other - within, np.maximum(within, other)))
    kinds = (sizes > 0).sum(axis=1)
    return np.where((kinds >= 2) & (kinds < count), found.T, np.nan)


@exact
def _sums(across: Array, labels: NDArray[np.int64], clusters: int) -> Array:
    """Sums of the distances of each row to those of each cluster, [groupings, rows, clusters]."""
    count = across.shape[1]
    sums = np.zeros((len(labels), count, clusters))
    distances = np.empty(count)
    for row in range(count):
        distances[:] = 0.0
        for feature in range(len(across)):
            place = across[feature, row]
            for other in range(count):
                away = across[feature, other] - place
                distances[other] += away * away
        for other in range(count):
            distances[other] = np.sqrt(distances[other])
        for grouping in range(len(labels)):
            found, own = sums[grouping, row], labels[grouping]
            for other in range(count):
                found[own[other]] += distances[other]
    return sums
