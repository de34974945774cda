"""Clusters and pattern types of a model's attention heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.clustering.agreement import AGREEMENT, agreement, rule_agreement, rule_information
from analysis.clustering.kmeans import CHOICE, Clustering, fit
from analysis.clustering.names import cluster_names
from analysis.clustering.pattern_types import TYPED, TYPES, classify, type_shares
from analysis.clustering.rows import FEATURES, KEYS, pattern_rows
from analysis.clustering.sampling import TABLES, chosen_rows
from analysis.metrics.stream import Sharded, shards
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
ASSIGNMENTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "sample": pl.Int32,
    "layer": pl.Int16,
    "head": pl.Int16,
    "cluster": pl.Int32,
    "distance": pl.Float64,
    "pattern_type": pl.Enum(TYPES),
    "margin": pl.Float64,
}


DIRECTIONS = {
    "direction": pl.Int32,
    "variance": pl.Float64,
    "kept": pl.Boolean,
    **dict.fromkeys(FEATURES, pl.Float64),
}
EMPTY = {
    "clusters": pl.DataFrame(schema=CLUSTERS),
    "assignments": pl.DataFrame(schema=ASSIGNMENTS),
    "choice": pl.DataFrame(schema=CHOICE),
    "directions": pl.DataFrame(schema=DIRECTIONS),
    "pattern_types": pl.DataFrame(schema=TYPED),
    "agreement": pl.DataFrame(schema=AGREEMENT),
    "metrics": pl.DataFrame(schema=METRICS),
}


def run(
    features: Features | Sharded, settings: ClusteringSettings, pooled: Sequence[Features | Sharded] = ()
) -> dict[str, pl.DataFrame]:
    """Group the attention patterns of all samples, layers and heads, and name them.

    The clusters are fitted on at most max_rows rows, chosen by a hash of sample, layer and head and as many from each
    model; then every row joins the nearest. Neither depends on how the samples are cut into shards.

    Args:
        features: Feature tables; attention and heads are read, shard by shard.
        settings: Number of clusters, seed and rows to fit on.
        pooled: Features of all the models that are to share the clusters, this one among them, in any order; without
            it the clusters are those of this model alone.

    Returns:
        clusters: cluster (0 has most of the fitted rows), name, size (rows of this model), share, and the centroid's
        features in standard deviations.
        assignments: sample, layer, head, cluster, distance (to its centre, whitened), pattern_type, margin.
        choice: k, silhouette, inertia, chosen, seeds_mean, seeds_min, halves_mean, halves_min (adjusted Rand indices).
        directions: direction, variance, kept, and its loading on each feature.
        pattern_types: layer (null for all), pattern_type, share, count.
        agreement: cluster, pattern_type, share of the cluster's rows, count.
        metrics: clusters_chosen, silhouette, cluster_stability, rule_agreement, rule_information; n counts samples.
    """
    fitted = _pooled(pooled or [features], settings)
    if chosen_rows(features, 1, settings.seed).is_empty():
        return dict(EMPTY)
    found = fit(fitted.select(FEATURES).to_numpy(), settings, fitted["sample"].to_numpy().astype(np.int64))
    assignments = pl.concat([_assigned(pattern_rows(part), found) for part in shards(features, TABLES)]).sort(KEYS)
    return {
        "clusters": _clusters(found, assignments),
        "assignments": assignments,
        "choice": found.choice,
        "directions": _directions(found),
        "pattern_types": type_shares(assignments.with_columns(pl.col("pattern_type").cast(pl.String))),
        "agreement": agreement(assignments),
        "metrics": _metrics(found, assignments),
    }


def _pooled(models: Sequence[Features | Sharded], settings: ClusteringSettings) -> pl.DataFrame:
    """As many rows of each model, in an order that does not depend on that of the models."""
    most = max(1, settings.max_rows // len(models))
    parts = [part for part in (chosen_rows(one, most, settings.seed) for one in models) if not part.is_empty()]
    least = min((part.height for part in parts), default=0)
    if any(part.height > least for part in parts):
        parts = [chosen_rows(one, least, settings.seed) for one in models]
    return pl.concat(parts).sort(*KEYS, *FEATURES) if parts else pl.DataFrame()


def _assigned(rows: pl.DataFrame, found: Clustering) -> pl.DataFrame:
    types, margins = classify(rows)
    clusters, distances = found.assign(rows.select(FEATURES).to_numpy())
    return rows.select(KEYS).with_columns(
        cluster=pl.Series(clusters, dtype=pl.Int32),
        distance=pl.Series(distances),
        pattern_type=pl.Series(types, dtype=pl.Enum(TYPES)),
        margin=pl.Series(margins),
    )


def _clusters(found: Clustering, assignments: pl.DataFrame) -> pl.DataFrame:
    sizes = np.bincount(assignments["cluster"].to_numpy(), minlength=len(found.centroids))
    columns: dict[str, object] = {
        "cluster": np.arange(len(sizes)),
        "name": cluster_names(found.centroids, FEATURES),
        "size": sizes,
        "share": sizes / sizes.sum(),
    }
    columns |= dict(zip(FEATURES, found.centroids.T, strict=True))
    return pl.DataFrame(columns, schema_overrides=CLUSTERS)


def _directions(found: Clustering) -> pl.DataFrame:
    space = found.whitening
    columns: dict[str, object] = {
        "direction": np.arange(len(space.variances)),
        "variance": space.variances,
        "kept": np.arange(len(space.variances)) < space.kept,
    }
    columns |= dict(zip(FEATURES, space.directions.T, strict=True))
    return pl.DataFrame(columns, schema_overrides=DIRECTIONS)


def _metrics(found: Clustering, assignments: pl.DataFrame) -> pl.DataFrame:
    chosen = found.choice.filter(pl.col("chosen")).row(0, named=True)
    frame = constants(
        {
            "clusters_chosen": len(found.centroids),
            "silhouette": chosen["silhouette"],
            "cluster_stability": chosen["halves_mean"],
            "rule_agreement": rule_agreement(assignments),
            "rule_information": rule_information(assignments),
        }
    )
    return frame.with_columns(n=pl.lit(assignments["sample"].n_unique(), dtype=pl.Int32))
