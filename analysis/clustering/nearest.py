"""The nearest cluster of each row, in an order of sums that no neighbour in the batch can change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact
from indexscope.analysis.statistics import Array


@exact
def nearest(
    features: Array, mean: Array, scale: Array, directions: Array, spread: Array, centres: Array
) -> tuple[NDArray[np.int64], Array]:
    """The nearest centre of each row and the distance to it.

    One row at a time: a matrix product may sum in blocks that depend on how many rows there are, so that the last
    digits of a row would depend on the shard that it came in.

    Args:
        features: [rows, features], finite.
        mean: Subtracted from each feature, [features].
        scale: What each feature is divided by then, [features].
        directions: Unit vectors, [directions, features].
        spread: What each coordinate along them is divided by, [directions].
        centres: [clusters, directions].

    Returns:
        Clusters, [rows] (the first of several as near), and distances, [rows].
    """
    rows, width = features.shape
    clusters = np.empty(rows, np.int64)
    distances = np.empty(rows)
    scaled = np.empty(width)
    place = np.empty(len(directions))
    for row in range(rows):
        for feature in range(width):
            scaled[feature] = (features[row, feature] - mean[feature]) / scale[feature]
        for direction in range(len(directions)):
            total = 0.0
            for feature in range(width):
                total += scaled[feature] * directions[direction, feature]
            place[direction] = total / spread[direction]
        best = np.inf
        chosen = 0
        for cluster in range(len(centres)):
            squared = 0.0
            for direction in range(len(directions)):
                squared += (place[direction] - centres[cluster, direction]) ** 2
            if squared < best:
                best = squared
                chosen = cluster
        clusters[row] = chosen
        distances[row] = np.sqrt(best)
    return clusters, distances
