"""The tables of features, each feature of one query among them, in the order of the columns.

Kernels write features by their place in the tuples of names.
"""

from __future__ import annotations

import polars as pl

from indexscope.analysis.selections import SELECTIONS
from indexscope.columns import Column, names, of, table_of

_COUNTS = of(
    pl.Int32,
    "queries",
    queries="Queries of the row.",
    queries_multi="Queries with more than one eligible key.",
    queries_in_effect="Queries with more eligible keys than are selected.",
)
_OF_ALL_QUERIES: tuple[Column, ...] = (
    *of(pl.Float32, "nats", "queries", attention_entropy="Entropy of the dense attention."),
    *of(
        pl.Float32,
        "keys",
        "queries",
        effective_keys="Number of keys that uniform attention of the same entropy would have.",
        participation="Effective number of keys by the second moment.",
    ),
    *of(pl.Float32, "share", "queries_multi", normalized_entropy="Entropy as a share of its largest possible value."),
    *of(
        pl.Float32,
        "share",
        "queries",
        sparsity_ratio="Share of eligible keys with a negligible attention weight.",
        max_weight="Largest attention weight of a query.",
        top_5_mass="Attention on the 5 most attended keys.",
        top_10_mass="Attention on the 10 most attended keys.",
        top_20_mass="Attention on the 20 most attended keys.",
        top_64_mass="Attention on the 64 most attended keys.",
        top_k_mass="Attention on as many most attended keys as the indexer may select.",
        keys_for_95="Share of the eligible keys that it takes to hold 95 % of the attention.",
        local_mass="Attention on the nearest keys, the query's own included.",
        sink_mass="Attention on the first keys of the sequence.",
        self_mass="Attention on the query's own token.",
        previous_mass="Attention on the token just before the query.",
    ),
    *of(pl.Float32, "tokens", "queries", mean_distance="How far back the attention reaches on average."),
    *of(
        pl.Float32,
        "share",
        "queries",
        induction_mass="Attention on tokens that followed an earlier copy of the query's token.",
    ),
)
_OF_QUERIES_IN_EFFECT: tuple[Column, ...] = (
    *of(
        pl.Float32, "share", "queries_in_effect", head_recall="Dense attention of the head that falls on selected keys."
    ),
    *of(
        pl.Float32, "ratio", "queries_in_effect", output_error="Relative change of the head's output by the selection."
    ),
)
_OF_SELECTION = of(
    pl.Float32,
    "share",
    "queries_in_effect",
    selection_recall="Dense attention of the head mean that falls on selected keys.",
    oracle_recall="What the best possible selection of the same size would hold.",
    random_recall="What a random selection of the same size would hold on average.",
    oracle_overlap="Share of the oracle's keys that the indexer also selects.",
)
_OF_SCORES: tuple[Column, ...] = (
    *of(
        pl.Float32,
        "share",
        "queries_in_effect",
        tie_share="Share of the selection that topk chose arbitrarily between equal scores.",
    ),
    *of(
        pl.Float32,
        "sd",
        "queries_in_effect",
        score_margin="How far the last selected score lies above the first unselected.",
    ),
    *of(pl.Float32, "nats", "queries_multi", indexer_kl="Divergence of the index scores from the attention."),
    *of(pl.Float32, "share", "queries_multi", zero_share="Share of eligible keys with an index score of exactly zero."),
)


COUNTS = names(_COUNTS)
OF_ALL_QUERIES = names(_OF_ALL_QUERIES)
OF_QUERIES_IN_EFFECT = names(_OF_QUERIES_IN_EFFECT)
OF_SELECTION = names(_OF_SELECTION)
OF_SCORES = names(_OF_SCORES)
PER_HEAD = (*OF_ALL_QUERIES, *OF_QUERIES_IN_EFFECT)
PER_QUERY = (*OF_SELECTION, *OF_SCORES)

SAMPLES = table_of(
    "sample",
    "sample",
    of(pl.String, name="Document and offset of the sample."),
    of(pl.Int32, "tokens", tokens="Length of the sample."),
)
TOKENS = table_of(
    "sample, bucket",
    "sample bucket",
    of(pl.Int32, "tokens", tokens="Predicted tokens of the row."),
    of(pl.Float64, "nats", "tokens", nll="Negative log-likelihood of the next token."),
    of(pl.Float64, "share", "tokens", accuracy="Tokens whose most likely prediction is the true next token."),
    of(
        pl.Float64,
        "nats",
        "tokens",
        dense_nll="The same when every eligible key is selected; null unless it was asked for.",
    ),
)
ATTENTION = table_of(
    "sample, layer, head, bucket", "sample layer head bucket", _COUNTS, _OF_ALL_QUERIES, _OF_QUERIES_IN_EFFECT
)
HEADS = table_of(
    "sample, layer, head",
    "sample layer head",
    of(pl.Int32, "queries", queries="Queries at positions from 16 on."),
    of(
        pl.Float32,
        "share",
        "queries",
        vertical_mass="Attention on the most attended columns of the map, sinks aside.",
        slash_mass="Attention on the most attended diagonals of the map.",
    ),
    of(pl.Float32, "tokens", "queries", slash_distance="Distance of the most attended diagonal."),
    of(
        pl.Float32,
        "share",
        "queries",
        block_mass="Attention on whole aligned blocks of keys; null in samples too short to tell.",
    ),
    of(
        pl.Float32,
        "keys",
        block_size="Size of those blocks: the one of 16, 32, 64, 128, 256 and 512 that shows most.",
    ),
)
INDEXER = table_of("sample, layer, bucket", "sample layer bucket", _COUNTS, _OF_SELECTION, _OF_SCORES)
POSITIONS = table_of(
    "sample, layer, distance, relative",
    "sample layer distance relative",
    of(
        pl.Int8,
        distance="Distance bin: 0 holds the query itself, b the keys 2^(b-1) to 2^b - 1 before it.",
        relative="Relative bin: r holds the keys in tenth r of the eligible ones, 0 the oldest.",
    ),
    of(pl.Int32, "queries", queries="Queries that were counted in the sample."),
    of(
        pl.Float64,
        "keys",
        selections="Selected keys in both bins, over all queries; null for dense models.",
        expected_selections="The same if keys were selected by chance; null for dense models.",
    ),
    of(
        pl.Float64,
        "share, summed over queries",
        attention_mass="Dense attention on the keys in both bins.",
        attention_expected="The same if attention were uniform.",
    ),
)
#: Of the scores of one group, beside their number; the probe has them of single indexer heads.
MOMENTS_OF_SCORES: tuple[Column, ...] = (
    *of(pl.Float64, "score", "count", mean="Mean score."),
    *of(pl.Float64, "score^2", m2="Sum of squared deviations from the mean."),
    *of(pl.Float64, "score", minimum="Smallest score.", maximum="Largest score."),
    *of(pl.Int64, "keys", zeros="Scores that are exactly zero."),
    *of(pl.Binary, sketch="Serialised datasketches.tdigest_float of the scores."),
)
SCORES = table_of(
    "sample, layer, group",
    "sample layer group",
    of(pl.String, group="Whose index scores: selected or unselected keys of queries in effect."),
    of(pl.Int64, "keys", count="Scores of the row."),
    MOMENTS_OF_SCORES,
)
FEATURES = {
    "samples": SAMPLES,
    "tokens": TOKENS,
    "attention": ATTENTION,
    "heads": HEADS,
    "indexer": INDEXER,
    "positions": POSITIONS,
    "scores": SCORES,
    "selections": SELECTIONS,
}
