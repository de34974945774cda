"""Clusters and pattern types of a model's attention heads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering import ClusteringSettings
from indexscope.analysis.clustering.agreement import AGREEMENTS, agreement, resampled
from indexscope.analysis.clustering.counts import Counting, Counts
from indexscope.analysis.clustering.kmeans import Clustering, fit
from indexscope.analysis.clustering.pattern_types import TYPES, classify, type_shares
from indexscope.analysis.clustering.rows import FEATURES, KEYS, ROWS, pattern_rows
from indexscope.analysis.clustering.tables import CLUSTERS, RESULTS
from indexscope.analysis.metrics.ratios import share_table
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import metrics_frame, ranges
from indexscope.analysis.metrics.sums import Features
from indexscope.analysis.statistics.resampling import Array, interval
from indexscope.columns import empty

# More and less of each feature, in words.
WORDS = {
    "normalized_entropy": ("spread out", "focused"),
    "local_mass": ("local", "distant"),
    "sink_mass": ("sink", "no sink"),
    "self_mass": ("self", "not self"),
    "previous_mass": ("previous token", "not previous token"),
    "induction_mass": ("induction", "no induction"),
    "vertical_mass": ("vertical", "no columns"),
    "slash_mass": ("slash", "no slash"),
    "block_mass": ("blocks", "no blocks"),
    "reach": ("far-reaching", "short-reaching"),
}
NOTABLE = 0.1
WORDS_AT_MOST = 2
TABLES = ("attention", "heads")
#: Raise it when any number of the analysis would change.
VERSION = 8


def run(
    features: Features | Sharded, settings: ClusteringSettings, pooled: Sequence[Features | Sharded] = ()
) -> dict[str, pl.DataFrame]:
    """Group the attention patterns of all samples, layers and heads, and name them.

    The clusters are fitted on at most max_rows rows, chosen by a hash of sample, layer and head and as many from each
    model; then every row joins the nearest. Neither depends on how the samples are cut into shards.

    Intervals resample samples with clusters and types as they are: they tell how much another choice of
    samples would change what the groups hold, not how it would change the groups (for that: halves_mean, halves_min).

    Args:
        features: Feature tables; attention and heads are read, shard by shard.
        settings: Number of clusters, seed, rows to fit on and the bootstrap.
        pooled: Features of all the models that the clusters are fitted on, in any order: this one among them, or not
            where it is a member of a series, which joins the clusters of the others; without it the clusters are those
            of this model alone.

    Returns:
        clusters: cluster (0 has most of the fitted rows), name, size (rows of this model), share with ci_low, ci_high
        and n (samples), and the mean of its features.
        assignments: sample, layer, head, cluster, distance (to its centre), pattern_type, margin.
        choice: k, silhouette with its interval and n, inertia, largest, apart, chosen, seeds_mean,
        seeds_min, halves_mean, halves_min (adjusted Rand indices), found_again (Jaccard index).
        pattern_types: layer (null for all), pattern_type, share with its interval, count, n.
        agreement: cluster, pattern_type, share of the cluster's rows with its interval, count, n.
        metrics: clusters_chosen, silhouette, cluster_stability, rule_agreement, rule_information; n counts samples.
    """
    fitted = _pooled(pooled or [features], settings)
    if fitted.is_empty():
        return empty(RESULTS)
    found = _fitted(_Rows(fitted.select(FEATURES).to_numpy(), fitted["sample"].to_numpy().astype(np.int64), settings))
    counting, parts = Counting(len(found.centroids)), []
    for shard in shards(features, TABLES):
        rows = pattern_rows(shard)
        if not rows.is_empty():
            parts.append(_assigned(rows, found))
            counting.add(parts[-1])
    if not parts:
        return empty(RESULTS)
    counts = counting.counts()
    return {
        "clusters": clusters_table(found, counts, settings),
        "assignments": _in_order(parts),
        "choice": found.choice,
        "pattern_types": type_shares(counts.layers, counts.types, settings),
        "agreement": agreement(counts.pairs, settings),
        "metrics": _metrics(found, counts, settings),
    }


class _Rows:
    """Rows to fit, equal to others of the same bytes with the same settings."""

    def __init__(self, features: Array, samples: NDArray[np.int64], settings: ClusteringSettings) -> None:
        self.features, self.samples, self.settings = features, samples, settings
        self._told = hash((features.tobytes(), samples.tobytes(), settings.model_dump_json()))

    def __hash__(self) -> int:
        return self._told

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Rows)
            and self.settings == other.settings
            and np.array_equal(self.features, other.features)
            and np.array_equal(self.samples, other.samples)
        )


@lru_cache(maxsize=1)
def _fitted(rows: _Rows) -> Clustering:
    """Models that share their clusters are analysed one after the other, and fitted once."""
    return fit(rows.features, rows.settings, rows.samples, FEATURES)


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
        cluster=pl.Series(clusters, dtype=pl.Int16),
        distance=pl.Series(distances, dtype=pl.Float32),
        pattern_type=pl.Series(types, dtype=pl.Enum(TYPES)),
        margin=pl.Series(margins, dtype=pl.Float32),
    )


def _in_order(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Sorted parts as one sorted table; sorted anew, which takes twice the memory, only where samples interleave."""
    ordered = sorted(parts, key=lambda part: int(part["sample"][0]))
    apart = all(one["sample"][-1] < other["sample"][0] for one, other in pairwise(ordered))
    whole = pl.concat(ordered, rechunk=False)
    return whole if apart else whole.sort(KEYS)


def clusters_table(
    found: Clustering, counts: Counts, settings: ClusteringSettings, features: Sequence[str] = FEATURES
) -> pl.DataFrame:
    """The table ``clusters`` of `run`, for whatever features the clusters were found in."""
    by_cluster = counts.pairs.sum(axis=2)
    names = {"cluster": range(by_cluster.shape[1]), "name": cluster_names(found.centres - found.middle, features)}
    totals = np.broadcast_to(by_cluster.sum(axis=1, keepdims=True), by_cluster.shape)
    frame = share_table(pl.DataFrame(names), by_cluster, totals, settings).with_columns(
        pl.Series("size", by_cluster.sum(axis=0)),
        *(pl.Series(name, values) for name, values in zip(features, found.centroids.T, strict=True)),
    )
    schema = pl.Schema({name: kind for name, kind in CLUSTERS.schema.items() if name not in FEATURES})
    schema.update(dict.fromkeys(features, pl.Float64()))
    return frame.select(*schema).cast(schema)


def _metrics(found: Clustering, counts: Counts, settings: ClusteringSettings) -> pl.DataFrame:
    chosen = found.choice.filter(pl.col("chosen")).row(0, named=True)
    samples = len(counts.samples)
    estimates, replicates = resampled(counts.pairs, settings)
    low, high = interval(
        estimates, replicates, np.full(len(estimates), samples), settings.confidence, ranges(AGREEMENTS)
    )
    rows: list[tuple[str, float | None, float | None, float | None, int]] = [
        ("clusters_chosen", len(found.centroids), None, None, samples),
        ("silhouette", chosen["silhouette"], chosen["silhouette_low"], chosen["silhouette_high"], chosen["n"]),
        ("cluster_stability", chosen["halves_mean"], None, None, chosen["n"]),
        *zip(AGREEMENTS, estimates, low, high, [samples] * len(estimates), strict=True),
    ]
    names, *columns, n = zip(*rows, strict=True)
    values, low, high = np.array(columns, dtype=np.float64)
    return metrics_frame([(name, None) for name in names], values, low, high, np.array(n))


def chosen_rows(features: Features | Sharded, most: int, seed: int) -> pl.DataFrame:
    """At most this many pattern rows, those with the smallest hashes, sorted by sample, layer and head.

    Memory holds one shard and twice the rows that are kept.

    Args:
        features: Feature tables, or shards of them.
        most: Rows to keep.
        seed: Another seed chooses other rows.
    """
    kept = pl.DataFrame(schema=ROWS | {"hash": pl.UInt64})
    for part in shards(features, TABLES):
        rows = pattern_rows(part)
        found = rows.with_columns(pl.Series("hash", hashes(rows, KEYS, seed), dtype=pl.UInt64))
        kept = pl.concat([kept, found]).sort("hash", *KEYS).head(most)
    return kept.sort(KEYS).drop("hash")


def hashes(rows: pl.DataFrame, keys: tuple[str, ...], seed: int) -> NDArray[np.uint64]:
    """A well-mixed number for each row, from its keys and the seed alone (SplitMix64, Steele et al. 2014)."""
    state = np.full(rows.height, seed, dtype=np.uint64)
    for key in keys:
        state = _mixed(state + rows[key].to_numpy().astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return state


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def cluster_names(differences: Array, features: Sequence[str]) -> list[str]:
    """One name a cluster, all different.

    A name holds the one or two features of which the cluster has most above all rows, 0.1 of the feature's range at
    least; where there is none, those of which it has least; "average" where there is neither. Equal names get further
    features, and at last a number.

    Args:
        differences: Of each cluster's centre from the mean of all rows, [clusters, features].
        features: Names of the features.
    """
    if len(differences) == 1:
        return ["all heads"]
    phrases = [_phrases(own, features) for own in differences]
    length = [max(1, min(WORDS_AT_MOST, int((own >= NOTABLE).sum()))) for own in differences]

    def named() -> list[str]:
        return [", ".join(words[:size]) or "average" for words, size in zip(phrases, length, strict=True)]

    for _ in features:
        names = named()
        longer = [
            size < len(words) and names.count(name) > 1
            for name, size, words in zip(names, length, phrases, strict=True)
        ]
        length = [size + more for size, more in zip(length, longer, strict=True)]
    names = named()
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


def _phrases(differences: Array, features: Sequence[str]) -> list[str]:
    """What the cluster has more of, by how much, then what it has less of: a pattern is named for what is there."""
    order = np.lexsort((-np.abs(differences), differences < 0))
    return [
        _words(features[place])[int(differences[place] < 0)] for place in order if abs(differences[place]) >= NOTABLE
    ]


def _words(feature: str) -> tuple[str, str]:
    return WORDS.get(feature, (f"high {feature}", f"low {feature}"))
