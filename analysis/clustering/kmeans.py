"""k-means on standardised, decorrelated features, with k chosen by a stated rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances, silhouette_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from analysis.clustering.stability import STABILITY, stability
from analysis.clustering.whitening import Whitening, whitening
from analysis.settings import ClusteringSettings
from analysis.statistics import Array

# Fewer clusters are preferred to a silhouette that is better by no more than this.
TOLERANCE = 0.01
# The silhouette compares all pairs of rows.
SILHOUETTE_ROWS = 2000
RESTARTS = 5
CHOICE = {
    "k": pl.Int32,
    "silhouette": pl.Float64,
    "inertia": pl.Float64,
    "chosen": pl.Boolean,
    **dict.fromkeys(STABILITY, pl.Float64),
}


@dataclass(frozen=True)
class Clustering:
    """Clusters that any rows can join, whichever rows they were found in.

    Attributes:
        whitening: From features to the space in which distances are taken.
        centres: Centre of each cluster in that space, [clusters, directions]; cluster 0 had most of the fitted rows.
        centroids: Mean of each cluster's fitted rows in standard deviations of the features, [clusters, features].
        choice: k, silhouette (null for k = 1), inertia, chosen and the stability: one row for each k that was tried.
    """

    whitening: Whitening
    centres: Array
    centroids: Array
    choice: pl.DataFrame

    def assign(self, features: Array) -> tuple[NDArray[np.int64], Array]:
        """The nearest cluster of each row, [rows, features] to [rows], and the distance to its centre, [rows]."""
        whitened = self.whitening.apply(features)
        # |x - c|^2 without |x|^2, which all clusters share.
        beyond = (self.centres**2).sum(axis=1) - 2 * whitened @ self.centres.T
        squared = beyond.min(axis=1) + (whitened**2).sum(axis=1)
        return np.asarray(beyond.argmin(axis=1), dtype=np.int64), np.sqrt(np.maximum(squared, 0.0))


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
        silhouettes = {k: _silhouette(distances, model.predict(judged)) for k, model in models.items()}
        stabilities = [stability(judged, owners, k, settings.seed) for k in ks]
    best = max((value for value in silhouettes.values() if not np.isnan(value)), default=np.nan)
    chosen = next((k for k in ks if silhouettes[k] >= best - TOLERANCE), ks[0])
    choice = pl.DataFrame(
        {
            "k": ks,
            "silhouette": [None if np.isnan(silhouettes[k]) else silhouettes[k] for k in ks],
            "inertia": [float(models[k].inertia_) for k in ks],
            "chosen": [k == chosen for k in ks],
            **{name: [values[name] for values in stabilities] for name in STABILITY},
        },
        schema=CHOICE,
    )
    return _by_size(models[chosen].labels_, whitened, found, features, choice)


def _some(rows: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most this many rows, in order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(random.choice(rows, most, replace=False))


def _silhouette(distances: Array, labels: NDArray[np.int32]) -> float:
    if not 2 <= len(np.unique(labels)) < len(labels):
        return float("nan")
    return float(silhouette_score(distances, labels, metric="precomputed"))


def _by_size(
    labels: NDArray[np.int32], whitened: Array, found: Whitening, features: Array, choice: pl.DataFrame
) -> Clustering:
    """Number the clusters by size, largest first; clusters of one size by their centroids."""
    scaled = found.standardised(features)
    groups = [labels == label for label in np.unique(labels)]
    centroids = np.array([scaled[own].mean(axis=0) for own in groups])
    centres = np.array([whitened[own].mean(axis=0) for own in groups])
    order = sorted(range(len(groups)), key=lambda place: (-int(groups[place].sum()), tuple(centroids[place])))
    return Clustering(found, centres[order], centroids[order], choice)
