"""How the clusters and the pattern types by rules agree."""

from __future__ import annotations

import polars as pl
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import pair_confusion_matrix

from analysis.clustering.pattern_types import TYPES

AGREEMENT: dict[str, pl.DataType | type[pl.DataType]] = {
    "cluster": pl.Int32,
    "pattern_type": pl.Enum(TYPES),
    "share": pl.Float64,
    "count": pl.Int64,
}


def agreement(assignments: pl.DataFrame) -> pl.DataFrame:
    """cluster, pattern_type, share of the cluster's rows, count; the pairs that occur, sorted."""
    counts = assignments.group_by("cluster", "pattern_type").agg(count=pl.len().cast(pl.Int64))
    shares = counts.with_columns(share=pl.col("count") / pl.col("count").sum().over("cluster"))
    return shares.select(*AGREEMENT).sort("cluster", "pattern_type")


def rule_agreement(assignments: pl.DataFrame) -> float | None:
    """Adjusted Rand index of clusters and types (Hubert and Arabie 1985); None where both are constant."""
    if _constant(assignments):
        return None
    labels = assignments["pattern_type"].to_physical().to_numpy(), assignments["cluster"].to_numpy()
    # Python's integers: the products of millions of rows overflow those of 64 bits.
    (neither, second), (first, both) = ([int(value) for value in row] for row in pair_confusion_matrix(*labels))
    if first == second == 0:
        return 1.0
    return (
        2
        * (both * neither - first * second)
        / ((both + first) * (first + neither) + (both + second) * (second + neither))
    )


def rule_information(assignments: pl.DataFrame) -> float | None:
    """Normalised mutual information of clusters and types; None where both are constant."""
    if _constant(assignments):
        return None
    labels = assignments["pattern_type"].to_physical().to_numpy(), assignments["cluster"].to_numpy()
    return float(normalized_mutual_info_score(*labels))


def _constant(assignments: pl.DataFrame) -> bool:
    return assignments["cluster"].n_unique() == assignments["pattern_type"].n_unique() == 1
