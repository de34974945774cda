"""k-means: greedy seeding, Lloyd's algorithm, the best of some starts; all in one compiled pass over the rows.

The algorithm, its draws and its limits are scikit-learn's ``KMeans(k, n_init=RESTARTS, random_state=seed)``, which a
test holds it to. A fit of some thousand rows takes as long there in checks of arguments as in arithmetic, and a choice
of k takes 126 fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact
from indexscope.analysis.statistics.resampling import Array

#: Starts of each fit, of which the best counts.
RESTARTS = 5
#: Lloyd's algorithm ends after so many rounds, and when the centres move by less than this part of the variance.
ROUNDS, TOLERANCE = 300, 1e-4
#: Rows whose distances are computed at once: they fit the cache.
_BLOCK = 512


@dataclass(frozen=True)
class Fit:
    """Clusters of some rows.

    Attributes:
        centres: [clusters, features].
        labels: The nearest centre of each row, [rows].
        inertia: Sum of the squared distances to it.
    """

    centres: Array
    labels: NDArray[np.int64]
    inertia: float


def fitted(rows: Array, k: int, seed: int) -> Fit:
    """k-means of rows, [rows, features] with at least k rows, the best of some starts."""
    trials = 2 + int(np.log(k))
    # The draws of scikit-learn, which has them one by one: the first centre, then the trials for each further one.
    draws = np.random.RandomState(seed % 2**32).random_sample((RESTARTS, 1 + (k - 1) * trials))
    tolerance = TOLERANCE * float(np.var(rows, axis=0).mean())
    across = np.ascontiguousarray(rows.T)
    return Fit(*_best(np.ascontiguousarray(rows), across, draws, k, trials, tolerance))


@exact
def nearest(places: Array, centres: Array) -> tuple[NDArray[np.int64], Array]:
    """The nearest centre of each row and the distance to it.

    One row at a time: a matrix product may sum in blocks that depend on how many rows there are, so that the last
    digits of a row would depend on the shard that it came in.

    Args:
        places: [rows, features], finite.
        centres: [clusters, features].

    Returns:
        Clusters, [rows] (the first of several as near), and distances, [rows].
    """
    rows, width = places.shape
    clusters = np.empty(rows, np.int64)
    distances = np.empty(rows)
    for row in range(rows):
        best = np.inf
        chosen = 0
        for cluster in range(len(centres)):
            squared = 0.0
            for feature in range(width):
                squared += (places[row, feature] - centres[cluster, feature]) ** 2
            if squared < best:
                best = squared
                chosen = cluster
        clusters[row] = chosen
        distances[row] = np.sqrt(best)
    return clusters, distances


@exact
def _squared(across: Array, centre: Array, start: int, end: int, found: Array) -> None:
    """Squared distances of the rows from start to end, of [features, rows], to one centre."""
    for row in range(end - start):
        found[row] = 0.0
    for feature in range(len(across)):
        place = centre[feature]
        own = across[feature, start:end]
        for row in range(end - start):
            away = own[row] - place
            found[row] += away * away


@exact
def _assign(across: Array, centres: Array, labels: NDArray[np.int64], squares: Array) -> None:
    """The nearest centre of each row and its squared distance."""
    found = np.empty(_BLOCK)
    for start in range(0, across.shape[1], _BLOCK):
        end = min(start + _BLOCK, across.shape[1])
        label, best = labels[start:end], squares[start:end]
        label[:] = 0
        _squared(across, centres[0], start, end, best)
        for cluster in range(1, len(centres)):
            _squared(across, centres[cluster], start, end, found)
            for row in range(end - start):
                nearer = found[row] < best[row]
                best[row] = found[row] if nearer else best[row]
                label[row] = cluster if nearer else label[row]


@exact
def _seeds(rows: Array, across: Array, draws: Array, k: int, trials: int) -> Array:
    """Greedy k-means++ (Arthur and Vassilvitskii 2007): of some rows drawn by their squared distance, the best."""
    count = len(rows)
    centres = np.empty((k, rows.shape[1]))
    first = min(int(draws[0] * count), count - 1)
    for feature in range(rows.shape[1]):
        centres[0, feature] = rows[first, feature]
    closest, trial, best, reached = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    _squared(across, centres[0], 0, count, closest)
    for cluster in range(1, k):
        total = 0.0
        for row in range(count):
            total += closest[row]
            reached[row] = total
        least = np.inf
        for number in range(trials):
            wanted = draws[1 + (cluster - 1) * trials + number] * total
            at, past = 0, count - 1
            while at < past:
                middle = (at + past) // 2
                if reached[middle] < wanted:
                    at = middle + 1
                else:
                    past = middle
            _squared(across, rows[at], 0, count, trial)
            left = 0.0
            for row in range(count):
                trial[row] = min(trial[row], closest[row])
                left += trial[row]
            if left < least:
                least = left
                for feature in range(rows.shape[1]):
                    centres[cluster, feature] = rows[at, feature]
                for row in range(count):
                    best[row] = trial[row]
        for row in range(count):
            closest[row] = best[row]
    return centres


@exact
def _moved(rows: Array, labels: NDArray[np.int64], squares: Array, k: int) -> Array:
    """Mean of each cluster's rows; a cluster without any gets one of the rows that are furthest from their centre."""
    centres, sizes = np.zeros((k, rows.shape[1])), np.zeros(k)
    for row in range(len(rows)):
        sizes[labels[row]] += 1.0
        for feature in range(rows.shape[1]):
            centres[labels[row], feature] += rows[row, feature]
    for cluster in range(k):
        if sizes[cluster] > 0.0:
            continue
        furthest = 0
        for row in range(len(rows)):
            if squares[row] > squares[furthest]:
                furthest = row
        if squares[furthest] > 0.0:
            squares[furthest] = 0.0
            sizes[labels[furthest]] -= 1.0
            sizes[cluster] = 1.0
            for feature in range(rows.shape[1]):
                centres[labels[furthest], feature] -= rows[furthest, feature]
                centres[cluster, feature] = rows[furthest, feature]
    largest = 0
    for cluster in range(k):
        if sizes[cluster] > sizes[largest]:
            largest = cluster
        for feature in range(rows.shape[1]):
            centres[cluster, feature] /= max(sizes[cluster], 1.0)
    for cluster in range(k):
        if sizes[cluster] <= 0.0:
            for feature in range(rows.shape[1]):
                centres[cluster, feature] = centres[largest, feature]
    return centres


@exact
def _lloyd(rows: Array, across: Array, centres: Array, tolerance: float) -> tuple[Array, NDArray[np.int64], float]:
    labels, squares = np.empty(len(rows), np.int64), np.empty(len(rows))
    before = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        _assign(across, centres, labels, squares)
        moved = _moved(rows, labels, squares, len(centres))
        shift = 0.0
        for cluster in range(len(centres)):
            for feature in range(rows.shape[1]):
                shift += (moved[cluster, feature] - centres[cluster, feature]) ** 2
        centres = moved
        same = True
        for row in range(len(rows)):
            same = same and labels[row] == before[row]
            before[row] = labels[row]
        if same or shift <= tolerance:
            break
    _assign(across, centres, labels, squares)
    inertia = 0.0
    for row in range(len(rows)):
        inertia += squares[row]
    return centres, labels, inertia


@exact
def _alike(one: NDArray[np.int64], other: NDArray[np.int64], k: int) -> bool:
    """Whether two groupings are the same up to the numbers of their groups."""
    names = np.full(k, -1)
    for row in range(len(one)):
        if names[one[row]] == -1:
            names[one[row]] = other[row]
        elif names[one[row]] != other[row]:
            return False
    return True


@exact
def _best(
    rows: Array, across: Array, draws: Array, k: int, trials: int, tolerance: float
) -> tuple[Array, NDArray[np.int64], float]:
    centres, labels, inertia = _lloyd(rows, across, _seeds(rows, across, draws[0], k, trials), tolerance)
    for start in range(1, len(draws)):
        found = _lloyd(rows, across, _seeds(rows, across, draws[start], k, trials), tolerance)
        # Rounding may make the same grouping a hair better.
        if found[2] < inertia and not _alike(found[1], labels, k):
            centres, labels, inertia = found
    return centres, labels, inertia
