"""Clusters and pattern types of a model's attention heads."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.clustering.kmeans import CHOICE, Clustering, cluster
from analysis.clustering.names import cluster_names
from analysis.clustering.pattern_types import TYPED, classify, type_shares
from analysis.clustering.rows import FEATURES, KEYS, pattern_rows
from analysis.metrics.summary import METRICS, constants
from analysis.metrics.sums import Features
from analysis.settings import ClusteringSettings

CLUSTERS = {
    "cluster": pl.Int32,
    "name": pl.String,
    "size": pl.Int64,
    "share": pl.Float64,
    **dict.fromkeys(FEATURES, pl.Float64),
}
ASSIGNMENTS = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "cluster": pl.Int32,
    "pattern_type": pl.String,
    "margin": pl.Float64,
}


def run(features: Features, settings: ClusteringSettings) -> dict[str, pl.DataFrame]:
    """Group the attention patterns of all samples, layers and heads, and name them.

    Args:
        features: Feature tables; attention and heads are read.
        settings: Number of clusters, seed and rows to fit on.

    Returns:
        clusters: cluster (0 the largest), name, size (rows), share, and the centroid's features in standard deviations.
        assignments: sample, layer, head, cluster, pattern_type, margin.
        choice: k, silhouette, inertia, chosen.
        pattern_types: layer (null for all), pattern_type, share, count.
        metrics: clusters_chosen and silhouette; n counts samples.
    """
    rows = pattern_rows(features)
    if rows.is_empty():
        schemas = {"clusters": CLUSTERS, "assignments": ASSIGNMENTS, "choice": CHOICE, "pattern_types": TYPED}
        return {name: pl.DataFrame(schema=schema) for name, schema in (schemas | {"metrics": METRICS}).items()}
    found = cluster(rows.select(FEATURES).to_numpy(), settings)
    types, margins = classify(rows)
    assignments = rows.select(KEYS).with_columns(
        cluster=pl.Series(found.labels, dtype=pl.Int32), pattern_type=pl.Series(types), margin=pl.Series(margins)
    )
    return {
        "clusters": _clusters(found),
        "assignments": assignments,
        "choice": found.choice,
        "pattern_types": type_shares(assignments),
        "metrics": _metrics(found, rows["sample"].n_unique()),
    }


def _clusters(found: Clustering) -> pl.DataFrame:
    sizes = np.bincount(found.labels, minlength=len(found.centroids))
    columns: dict[str, object] = {
        "cluster": np.arange(len(sizes)),
        "name": cluster_names(found.centroids, FEATURES),
        "size": sizes,
        "share": sizes / sizes.sum(),
    }
    columns |= dict(zip(FEATURES, found.centroids.T, strict=True))
    return pl.DataFrame(columns, schema_overrides=CLUSTERS)


def _metrics(found: Clustering, samples: int) -> pl.DataFrame:
    chosen = found.choice.filter(pl.col("chosen")).row(0, named=True)
    frame = constants({"clusters_chosen": len(found.centroids), "silhouette": chosen["silhouette"]})
    return frame.with_columns(n=pl.lit(samples, dtype=pl.Int32))
