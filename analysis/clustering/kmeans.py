"""k-means on standardised, decorrelated features, with k chosen by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, silhouette_samples
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.agreement import STABILITY, stability
from indexscope.analysis.clustering.tables import CHOICE
from indexscope.analysis.compiled import exact
from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.statistics.resampling import Array

# A direction counts where its variance is at least this share of that of a standardised feature. Whitening divides by
# the standard deviation: what varies less would be rounding and noise, blown up to the weight of everything else.
LEAST_VARIANCE = 0.05
# Fewer clusters are preferred to a silhouette that is better by no more than this.
TOLERANCE = 0.01
# The silhouette compares all pairs of rows.
SILHOUETTE_ROWS = 2000
RESTARTS = 5


@dataclass(frozen=True)
class Whitening:
    """PCA whitening of standardised features.

    Attributes:
        mean: Of each feature, [features].
        scale: Standard deviation of each feature, 1 where it does not vary, [features].
        variances: Of every direction of the correlation matrix, largest first, [features].
        directions: Unit vectors, [features, features], a row each in the order of the variances.
        kept: How many of them count: variance >= 0.05, one at least.
    """

    mean: Array
    scale: Array
    variances: Array
    directions: Array
    kept: int

    @property
    def spread(self) -> Array:
        """Standard deviation along each kept direction, [kept]."""
        return np.sqrt(np.maximum(self.variances[: self.kept], LEAST_VARIANCE))

    def standardised(self, features: Array) -> Array:
        """In standard deviations from the mean, [rows, features]."""
        return np.asarray((features - self.mean) / self.scale)

    def apply(self, features: Array) -> Array:
        """Coordinates along the kept directions, each of variance 1 over the fitted rows, [rows, kept]."""
        return np.asarray(self.standardised(features) @ self.directions[: self.kept].T / self.spread)


def whitening(features: Array) -> Whitening:
    """The whitening of some rows, [rows, features], at least one."""
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1), scale, 1.0)
    scaled = (features - mean) / scale
    values, vectors = np.linalg.eigh(scaled.T @ scaled / len(scaled))
    values, directions = np.maximum(values[::-1], 0.0), vectors.T[::-1]
    # The sign of an eigenvector is the library's whim: the largest loading is made positive.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], 1)
    directions = directions * np.where(largest < 0, -1.0, 1.0)
    return Whitening(mean, scale, values, directions, max(1, int((values >= LEAST_VARIANCE).sum())))


@dataclass(frozen=True)
class Clustering:
    """Clusters that any rows can join, whichever rows they were found in.

    Attributes:
        whitening: From features to the space in which distances are taken.
        centres: Centre of each cluster in that space, [clusters, directions]; cluster 0 had most of the fitted rows.
        centroids: Mean of each cluster's fitted rows in standard deviations of the features, [clusters, features].
        choice: k, silhouette with its interval (null for k = 1), n (samples of the rows that it is the mean of),
            inertia, chosen and the stability: one row for each k that was tried.
    """

    whitening: Whitening
    centres: Array
    centroids: Array
    choice: pl.DataFrame

    def assign(self, features: Array) -> tuple[NDArray[np.int64], Array]:
        """The nearest cluster of each row, [rows, features] to [rows], and the distance to its centre, [rows].

        Neither depends in any digit on the other rows of the call.
        """
        space = self.whitening
        rows, directions = (
            np.ascontiguousarray(features, np.float64),
            np.ascontiguousarray(space.directions[: space.kept]),
        )
        return nearest(rows, space.mean, space.scale, directions, space.spread, np.ascontiguousarray(self.centres))


def fit(features: Array, settings: ClusteringSettings, samples: NDArray[np.int64] | None = None) -> Clustering:
    """Find clusters by k-means on whitened features (see `whitening`).

    With ``clusters = auto``, k is the smallest from 2 to max_clusters whose mean silhouette is within 0.01 of the best.
    Rows with fewer distinct values than clusters get as many clusters as there are distinct rows.

    Args:
        features: [rows, features], finite, at least one row.
        settings: k or auto and the seed.
        samples: Sample of each row, for the stability between halves of the samples; each row its own by default.
    """
    found = whitening(features)
    whitened = found.apply(features)
    random = np.random.default_rng(settings.seed)
    some = _some(len(whitened), SILHOUETTE_ROWS, random)
    judged = whitened[some]
    owners = (np.arange(len(whitened)) if samples is None else samples)[some]
    distinct = len(np.unique(whitened, axis=0))
    tried = range(2, settings.max_clusters + 1) if settings.clusters == "auto" else [settings.clusters]
    ks = sorted({max(1, min(k, distinct)) for k in tried})
    # One thread: the order of parallel sums would leak into the last digits.
    with threadpool_limits(1):
        distances = pairwise_distances(judged)
        models = {k: KMeans(k, n_init=RESTARTS, random_state=settings.seed).fit(whitened) for k in ks}
        values = np.stack([_silhouettes(distances, models[k].predict(judged)) for k in ks], axis=1)
        stabilities = [stability(judged, owners, k, settings.seed) for k in ks]
    # A resample of the samples weighs silhouettes anew and leaves clusters and distances as they are.
    judgement = share_table(pl.DataFrame({"k": ks}), *_summed(values, owners), settings, "silhouette")
    best = judgement["silhouette"].max()
    good = [] if best is None else judgement.filter(pl.col("silhouette") >= best - TOLERANCE)["k"].to_list()  # type: ignore[operator]
    chosen = min(good, default=ks[0])
    choice = judgement.rename({"ci_low": "silhouette_low", "ci_high": "silhouette_high"}).with_columns(
        pl.Series("inertia", [float(models[k].inertia_) for k in ks]),
        pl.Series("chosen", [k == chosen for k in ks]),
        *(pl.Series(name, [values[name] for values in stabilities], dtype=pl.Float64) for name in STABILITY),
    )
    labels = models[chosen].labels_
    centres, centroids = _by_size(labels, whitened, found.standardised(features))
    return Clustering(found, centres, centroids, CHOICE.shaped(choice))


def _some(rows: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most this many rows, in order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(random.choice(rows, most, replace=False))


def _silhouettes(distances: Array, labels: NDArray[np.int32]) -> Array:
    """The silhouette of each row; NaN where there is one cluster, or one for each row."""
    if not 2 <= len(np.unique(labels)) < len(labels):
        return np.full(len(labels), np.nan)
    return np.asarray(silhouette_samples(distances, labels, metric="precomputed"), dtype=np.float64)


def _summed(values: Array, owners: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sums of each column by sample and the rows behind them, [samples, columns]."""
    samples, places = np.unique(owners, return_inverse=True)
    sums, rows = np.zeros((2, len(samples), values.shape[1]))
    np.add.at(sums, places, values)
    np.add.at(rows, places, 1.0)
    return sums, rows


def _by_size(labels: NDArray[np.int32], whitened: Array, scaled: Array) -> tuple[Array, Array]:
    """Centres and centroids of the clusters by size, largest first; clusters of one size by their centroids."""
    groups = [labels == label for label in np.unique(labels)]
    centroids = np.array([scaled[own].mean(axis=0) for own in groups])
    centres = np.array([whitened[own].mean(axis=0) for own in groups])
    order = sorted(range(len(groups)), key=lambda place: (-int(groups[place].sum()), tuple(centroids[place])))
    return centres[order], centroids[order]


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
