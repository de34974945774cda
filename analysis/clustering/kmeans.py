"""k-means on standardised features, with k chosen by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, silhouette_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from analysis.settings import ClusteringSettings
from analysis.statistics import Array

# Fewer clusters are preferred to a silhouette that is better by no more than this.
TOLERANCE = 0.01
# The silhouette compares all pairs of rows.
SILHOUETTE_ROWS = 2000
RESTARTS = 5
CHOICE = {"k": pl.Int32, "silhouette": pl.Float64, "inertia": pl.Float64, "chosen": pl.Boolean}


@dataclass(frozen=True)
class Clustering:
    """The clusters of all rows.

    Attributes:
        labels: Cluster of each row, 0 the largest.
        centroids: Centroids in standard deviations from the mean of all rows, [clusters, features].
        choice: k, silhouette (null for k = 1), inertia, chosen: one row for each k that was tried.
    """

    labels: NDArray[np.int64]
    centroids: Array
    choice: pl.DataFrame


def cluster(features: Array, settings: ClusteringSettings) -> Clustering:
    """Group rows by k-means on features scaled to mean 0 and standard deviation 1.

    With ``clusters = auto``, k is the smallest from 2 to max_clusters whose mean silhouette is within 0.01 of the best.
    A study with fewer distinct rows than clusters gets as many clusters as it has distinct rows.

    Args:
        features: [rows, features], finite, at least one row.
        settings: k or auto, seed and the number of rows to fit on.
    """
    scaled = np.asarray(StandardScaler().fit_transform(features), dtype=np.float64)
    random = np.random.default_rng(settings.seed)
    fitted = scaled[_some(len(scaled), settings.max_rows, random)]
    judged = fitted[_some(len(fitted), SILHOUETTE_ROWS, random)]
    distinct = len(np.unique(fitted, axis=0))
    tried = range(2, settings.max_clusters + 1) if settings.clusters == "auto" else [settings.clusters]
    ks = sorted({max(1, min(k, distinct)) for k in tried})
    # One thread: the order of parallel sums would leak into the last digits.
    with threadpool_limits(1):
        distances = pairwise_distances(judged)
        models = {k: KMeans(k, n_init=RESTARTS, random_state=settings.seed).fit(fitted) for k in ks}
        silhouettes = {k: _silhouette(distances, model.predict(judged)) for k, model in models.items()}
        best = max((value for value in silhouettes.values() if not np.isnan(value)), default=np.nan)
        chosen = next((k for k in ks if silhouettes[k] >= best - TOLERANCE), ks[0])
        labels = models[chosen].predict(scaled)
    choice = pl.DataFrame(
        {
            "k": ks,
            "silhouette": [None if np.isnan(silhouettes[k]) else silhouettes[k] for k in ks],
            "inertia": [float(models[k].inertia_) for k in ks],
            "chosen": [k == chosen for k in ks],
        },
        schema=CHOICE,
    )
    return _by_size(labels, scaled, choice)


def _some(rows: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most this many rows, in order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(random.choice(rows, most, replace=False))


def _silhouette(distances: Array, labels: NDArray[np.int32]) -> float:
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(distances, labels, metric="precomputed"))


def _by_size(labels: NDArray[np.int32], scaled: Array, choice: pl.DataFrame) -> Clustering:
    """Number the clusters by size, largest first; clusters of one size by their centroids."""
    found = np.unique(labels)
    centroids = np.array([scaled[labels == label].mean(axis=0) for label in found])
    sizes = np.array([(labels == label).sum() for label in found])
    order = sorted(range(len(found)), key=lambda place: (-sizes[place], tuple(centroids[place])))
    renamed = np.empty(len(found), dtype=np.int64)
    renamed[order] = np.arange(len(found))
    return Clustering(renamed[np.searchsorted(found, labels)], centroids[order], choice)
