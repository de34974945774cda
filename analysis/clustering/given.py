"""Clusters of attention maps that were given as features, the pipeline's or further ones."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.agreement import agreement
from indexscope.analysis.clustering.counts import Counting
from indexscope.analysis.clustering.kmeans import fit
from indexscope.analysis.clustering.pattern_types import TYPES
from indexscope.analysis.clustering.run import clusters_table
from indexscope.analysis.statistics.resampling import Array


def cluster_given(
    rows: pl.DataFrame, features: Array, names: Sequence[str], settings: ClusteringSettings
) -> dict[str, pl.DataFrame]:
    """Group maps by any features, as `indexscope.analysis.clustering.run` groups those of a model.

    Args:
        rows: sample, layer, head, pattern_type (of `TYPES`), margin; one row a map.
        features: [rows, names], finite.
        names: Names of the features.
        settings: Number of clusters, seed and bootstrap.

    Returns:
        clusters, assignments, choice and agreement as there.
    """
    samples = rows["sample"].cast(pl.Int64).to_numpy()
    found = fit(features, settings, samples, names)
    clusters, distances = found.assign(features)
    assigned = rows.with_columns(
        pl.col("pattern_type").cast(pl.Enum(TYPES)),
        cluster=pl.Series(clusters, dtype=pl.Int16),
        distance=pl.Series(distances, dtype=pl.Float32),
    )
    counting = Counting(len(found.centroids))
    counting.add(assigned)
    counts = counting.counts()
    return {
        "clusters": clusters_table(found, counts, settings, names),
        "assignments": assigned,
        "choice": found.choice,
        "agreement": agreement(counts.pairs, settings),
    }
