"""k-means on features brought to one scale, with k chosen by a stated rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.agreement import STABILITY, halves, stability
from indexscope.analysis.clustering.choice import choose
from indexscope.analysis.clustering.lloyd import fitted, nearest
from indexscope.analysis.clustering.silhouette import silhouettes
from indexscope.analysis.clustering.space import Space, space_of
from indexscope.analysis.clustering.tables import CHOICE
from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.statistics.ranges import CHANGE
from indexscope.analysis.statistics.resampling import Array

# The silhouette compares all pairs of rows.
SILHOUETTE_ROWS = 2000


@dataclass(frozen=True)
class Clustering:
    """Clusters that any rows can join, whichever rows they were found in.

    Attributes:
        space: From features to the space in which distances are taken.
        centres: Centre of each cluster in that space, [clusters, features]; cluster 0 had most of the fitted rows.
        centroids: Mean of each cluster's fitted rows in the features' own units, [clusters, features].
        middle: Mean of all fitted rows in that space, [features].
        choice: k, silhouette with its interval (null for k = 1), n (samples of the rows that it is the mean of),
            inertia, chosen, the stability, largest and apart: one row for each k that was tried.
    """

    space: Space
    centres: Array
    centroids: Array
    middle: Array
    choice: pl.DataFrame

    def assign(self, features: Array) -> tuple[NDArray[np.int64], Array]:
        """The nearest cluster of each row, [rows, features] to [rows], and the distance to its centre, [rows].

        Neither depends in any digit on the other rows of the call.
        """
        return nearest(self.space.apply(features), np.ascontiguousarray(self.centres))


def fit(
    features: Array,
    settings: ClusteringSettings,
    samples: NDArray[np.int64] | None = None,
    names: Sequence[str] | None = None,
) -> Clustering:
    """Find clusters by k-means in the space of the features (see `Space`).

    With ``clusters = auto``, k is from 2 to max_clusters, by `choose`. Rows with fewer distinct values than clusters
    get as many clusters as there are distinct rows.

    Args:
        features: [rows, features], finite, at least one row.
        settings: k or auto and the seed.
        samples: Sample of each row, for the stability between halves of the samples; each row its own by default.
        names: Names of the features, for the ranges of those that are known; by default none is.
    """
    space = space_of(features, [""] * features.shape[1] if names is None else names)
    placed = space.apply(features)
    random = np.random.default_rng(settings.seed)
    some = _some(len(placed), SILHOUETTE_ROWS, random)
    judged = placed[some]
    owners = (np.arange(len(placed)) if samples is None else samples)[some]
    distinct = len(np.unique(placed, axis=0))
    tried = range(2, settings.max_clusters + 1) if settings.clusters == "auto" else [settings.clusters]
    ks = sorted({max(1, min(k, distinct)) for k in tried})
    models = {k: fitted(placed, k, settings.seed) for k in ks}
    labels = {k: model.labels[some] for k, model in models.items()}
    values = silhouettes(judged, np.stack([labels[k] for k in ks], axis=1))
    splits = halves(judged, owners, settings.seed)
    stabilities = [stability(judged, splits, labels[k], k, settings.seed) for k in ks]
    # A resample of the samples weighs silhouettes anew and leaves clusters and distances as they are.
    judgement = share_table(pl.DataFrame({"k": ks}), *_summed(values, owners), settings, "silhouette", CHANGE)
    choice = judgement.rename({"ci_low": "silhouette_low", "ci_high": "silhouette_high"}).with_columns(
        pl.Series("inertia", [models[k].inertia for k in ks]),
        pl.Series("largest", [float(np.bincount(models[k].labels).max() / len(placed)) for k in ks]),
        pl.Series("apart", [_apart(models[k].centres) for k in ks], dtype=pl.Float64),
        *(pl.Series(name, [values[name] for values in stabilities], dtype=pl.Float64) for name in STABILITY),
    )
    chosen = choose(choice)
    groups = _by_size(models[chosen].labels, features)
    return Clustering(
        space,
        np.array([placed[own].mean(axis=0) for own in groups]),
        np.array([features[own].mean(axis=0) for own in groups]),
        placed.mean(axis=0),
        CHOICE.shaped(choice.with_columns(chosen=pl.col("k") == chosen)),
    )


def _some(rows: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most this many rows, in order."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(random.choice(rows, most, replace=False))


def _apart(centres: Array) -> float | None:
    """Of the two most alike centres, the largest difference in a feature; None for one."""
    differences = np.abs(centres[:, None] - centres).max(axis=2)
    return float(differences[np.triu_indices(len(centres), 1)].min()) if len(centres) > 1 else None


def _summed(values: Array, owners: NDArray[np.int64]) -> tuple[Array, Array]:
    """Sums of each column by sample and the rows behind them, [samples, columns]."""
    samples, places = np.unique(owners, return_inverse=True)
    sums, rows = np.zeros((2, len(samples), values.shape[1]))
    np.add.at(sums, places, values)
    np.add.at(rows, places, 1.0)
    return sums, rows


def _by_size(labels: NDArray[np.int64], features: Array) -> list[NDArray[np.bool_]]:
    """Which rows each cluster has, the largest first; clusters of one size by their means."""
    groups = [labels == label for label in np.unique(labels)]
    return sorted(groups, key=lambda own: (-int(own.sum()), tuple(features[own].mean(axis=0))))
