"""What is kept of a dump held against the baseline, and what is made of it."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import PAIRED
from indexscope.columns import interval, of, places, table_of

_EFFECT = "of queries in effect"
COUNTED = table_of(
    "sample, layer, bucket",
    "sample layer bucket",
    of(
        pl.Float64,
        "queries",
        queries="Queries that the dump has rows of.",
        in_effect="Queries at which the baseline leaves a key out.",
        incomplete="Other queries, at which every key is to be selected, that miss one.",
        identical=f"Rows {_EFFECT} whose set of keys is the baseline's.",
        scored="Queries in effect of which index scores are known.",
        alike="Rows of scored queries that are identical, or differ in keys that tie with the k-th score alone.",
    ),
    of(pl.Float64, "queries", overlap="Sum, over queries in effect, of the share of the baseline's keys in the dump."),
    of(
        pl.Float64,
        "keys",
        missing=f"Keys {_EFFECT} that the baseline alone selects.",
        extra=f"Keys {_EFFECT} that the dump alone selects.",
        differing="Keys of scored queries that one of the two alone selects.",
        tied="Those of them that were exchanged for each other and have the k-th score, up to rounding.",
        future="Entries of any query that name a later token.",
        outside="Entries of any query that name no token, or one that the query may not select.",
        repeated="Entries of any query that name a key again.",
    ),
    of(pl.Float64, "sd", gap="Sum, over differing keys, of how far the score is from the k-th."),
    of(
        pl.Float64,
        "queries",
        attended="Queries in effect of which the baseline's attention is known.",
        recall="Sum of the baseline's dense attention on the keys of the dump.",
        baseline_recall="The same on the baseline's own keys.",
    ),
    of(
        pl.Float64,
        "share",
        asked="Of the sample's answer, where the dump has rows of all its queries: the share of them that is here.",
        evidence="Mean over the answer's queries of the share of the evidence's tokens in the dump, those here alone.",
        baseline_evidence="The same in the baseline's selection.",
    ),
)
DISTANCES = table_of(
    "sample, layer, distance bin",
    "sample layer bin",
    of(
        pl.Int64,
        "keys",
        selected=f"Keys {_EFFECT} that the baseline selects, at distances of the bin.",
        missing="Those of them that the dump lacks.",
        extra="Keys at these distances that the dump alone selects.",
    ),
)
_FIRST = of(
    pl.Int32,
    layer="The first layer in which a row in effect differs; null if none does.",
    query="Position of the first query that differs there.",
    distance="Tokens from it to the nearest key that differs.",
    beyond_layer="The first layer in which a row differs in more than ties; null if none does, or scores are unknown.",
    beyond_query="Position of the first such query there.",
    beyond_distance="Tokens from it to the nearest key that differs.",
    earliest_query="Position of the first query that differs in any layer.",
    earliest_layer="The first layer in which it does.",
)
MATCHED = table_of(
    "sample",
    "sample",
    of(pl.String, name="Document and offset of the sample.", record="Record of the dump; null if it has none."),
    of(pl.Int32, "tokens", tokens="Tokens of the sample."),
    of(pl.Int32, "queries", compared="Queries that were compared in each layer."),
    _FIRST,
)
#: What a shard's step keeps.
ROWS = {"counted": COUNTED, "distances": DISTANCES, "matched": MATCHED}

_PLACE = of(pl.Int16, layer="Index of the layer, from 0; null for all layers together.")
WHERE = table_of(
    "candidate, layer, bucket",
    "candidate layer bucket",
    _PLACE,
    places("bucket"),
    of(pl.Float64, "share", "queries", rows_identical="Rows whose set of keys is the baseline's."),
    interval("as the value", "rows_ci_low", "rows_ci_high", "the", " of it; null for single layers"),
    of(
        pl.Float64,
        "share",
        "queries",
        rows_alike="Rows that are identical up to ties; null without scores.",
        overlap="Mean share of the baseline's keys that the dump selects too.",
    ),
    of(pl.Float64, "queries", queries="Queries in effect."),
    of(pl.Int32, "samples", n="Samples with such queries; null for single layers."),
    ordered=False,
)
BY_DISTANCE = table_of(
    "candidate, layer, distance bin",
    "candidate layer bin",
    _PLACE,
    of(pl.Int32, bin="Index of the bin, from 0: distance 0, then powers of two."),
    of(pl.String, label="The bin in words."),
    of(
        pl.Int64,
        "keys",
        selected="Keys that the baseline selects.",
        missing="Those of them that the dump lacks.",
        extra="Keys that the dump alone selects.",
    ),
    of(pl.Float64, "share", missing_share="Share of the baseline's keys of the bin that are missing."),
    ordered=False,
)
PARTED = table_of("candidate, sample", "candidate sample", MATCHED.columns[1:], ordered=False)
COMPARED = {
    "metrics": PAIRED,
    "parity_where": WHERE,
    "parity_distances": BY_DISTANCE,
    "parity_samples": PARTED,
}
