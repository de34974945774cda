"""The tables of clusters and pattern types, and of how they moved between models."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.clustering.pattern_types import TYPED, TYPES
from indexscope.analysis.clustering.rows import COLUMNS
from indexscope.analysis.metrics.tables import METRICS
from indexscope.columns import SAMPLES, interval, of, table_of


def _clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


CLUSTERS = table_of(
    "cluster",
    "cluster",
    of(pl.String, name="The pattern that it is named for."),
    of(pl.Int64, "maps", size="Maps in the cluster."),
    of(pl.Float64, "share", share="Share of all maps."),
    interval("share"),
    SAMPLES,
    of(pl.Float64, "share", **{one.name: f"Mean of the cluster: {_clause(one.meaning)}" for one in COLUMNS}),
)
# 19 bytes a row: of all that the clustering keeps, this alone grows with samples, layers and heads.
ASSIGNMENTS = table_of(
    "sample, layer, head",
    "sample layer head",
    of(pl.Int16, cluster="The cluster that the map belongs to."),
    of(pl.Float32, "distance", distance="Distance of the map from the centre of its cluster, features from 0 to 1."),
    of(pl.Enum(TYPES), pattern_type="The map's pattern type by rules."),
    of(pl.Float32, "share", margin="The smallest change of an evidence that would change the type."),
)
CHOICE = table_of(
    "number of clusters",
    "k",
    of(pl.Int32, "clusters", k="Number of clusters that was tried."),
    of(pl.Float64, "score", silhouette="How well the clusters are separated, from -1 to 1."),
    interval("score", "silhouette_low", "silhouette_high"),
    of(pl.Int32, "samples", n="Samples of the rows that silhouette and agreement were judged on."),
    of(pl.Float64, "squared distance", inertia="Sum of squared distances from the centres."),
    of(pl.Float64, "share", largest="Share of the fitted rows in the largest cluster."),
    of(pl.Float64, "share", apart="Of the two most alike clusters: largest difference in a feature, from 0 to 1."),
    of(pl.Boolean, chosen="Whether it was chosen."),
    of(
        pl.Float64,
        "adjusted Rand index",
        seeds_mean="Agreement of fits with other seeds, mean over pairs.",
        seeds_min="The least agreement of fits with other seeds.",
        halves_mean="Agreement of fits on two halves of the samples, mean over splits.",
        halves_min="The least agreement of fits on two halves of the samples.",
    ),
    of(
        pl.Float64,
        "Jaccard index",
        found_again="Of the cluster that halves of the samples find again least: mean overlap with the nearest there.",
    ),
)
AGREEMENT = table_of(
    "cluster, pattern type",
    "cluster pattern_type",
    of(pl.Enum(TYPES), pattern_type="The pattern type by rules."),
    of(pl.Float64, "share", share="Share of the cluster's maps."),
    interval("share"),
    of(pl.Int64, "maps", count="Maps of the cluster that have the type."),
    of(pl.Int32, "samples", n="Samples that have maps in the cluster."),
)
RESULTS = {
    "metrics": METRICS,
    "assignments": ASSIGNMENTS,
    "choice": CHOICE,
    "agreement": AGREEMENT,
    "clusters": CLUSTERS,
    "pattern_types": TYPED,
}
