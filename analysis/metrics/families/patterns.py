"""How the heads' attention patterns group."""

from __future__ import annotations

from analysis.metrics.metric import Computed, Family, Metric

_CLUSTERING = Computed("clustering", "attention")

FAMILY = Family(
    order=100,
    title="Patterns",
    about="k-means on scaled features of each sample, layer and head. Not a property of single samples: no interval.",
    metrics=(
        Metric(
            "clusters_chosen",
            "clusters",
            "neither",
            "Number of clusters of attention patterns.",
            "clustering.clusters, or the smallest k from 2 to clustering.max_clusters whose silhouette is within 0.01 "
            "of the best",
            _CLUSTERING,
            per_layer=False,
            range="2 to clustering.max_clusters, or as set",
            misleads="The criterion always finds a number, also in data without groups: read the silhouette beside "
            "it. Another seed or subsample may choose another.",
        ),
        Metric(
            "silhouette",
            "score",
            "neither",
            "How well the clusters are separated, from -1 to 1; below 0.25 they are a convenience, not a finding.",
            "mean over rows of (b - a) / max(a, b), a the mean distance to the own cluster, b to the nearest other",
            _CLUSTERING,
            per_layer=False,
            source="Rousseeuw 1987; thresholds of Kaufman and Rousseeuw 1990",
            range="-1 to 1",
            misleads="Favours round, well-separated clusters of similar size; k-means on data without any groups "
            "still reaches 0.1 to 0.3 in few dimensions.",
        ),
    ),
)
