"""The tables of single indexer heads: what the close-up saw of them, and what the analysis makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import polars as pl

from indexscope.analysis.distribution.tables import MOMENTS, QUANTILES
from indexscope.analysis.features.columns import MOMENTS_OF_SCORES
from indexscope.analysis.metrics.tables import BOTH
from indexscope.analysis.positional_bias.tables import LABEL
from indexscope.columns import SAMPLES, Column, Table, interval, of, of_attention, places, table_of

_HEAD = of(pl.Int16, indexer_head="Index of the indexer head within its layer, from 0.")
_PAIR = of(pl.Int16, head_a="Indexer head.", head_b="Another indexer head of the layer, of a higher index.")
_STANDS_FOR = "Queries that the sampled ones stand for"
_WEIGHT = (
    *of(pl.Int32, "queries", queries="Sampled queries in effect."),
    *of(pl.Float64, "queries", weight=f"{_STANDS_FOR}."),
)
_MASSES = {
    "local": "the nearest 32 keys, the query's own included",
    "sink": "the first 4 keys of the sequence",
    "self": "the query's own token",
    "previous": "the token before the query",
    "induction": "tokens that followed an earlier copy of the query's token",
}
_ROLES = {
    "": "what the head adds to scores",
    "uniform_": "uniform scoring on the queries for which the head adds to scores",
    "against_": "what the head takes from scores",
    "against_uniform_": "uniform scoring on the queries for which the head takes from scores",
}


def _focus(role: str, weight: str = "") -> tuple[Column, ...]:
    """Where the score lies."""
    shares = {f"{role}{name}": f"Share on {place} of {_ROLES[role]}." for name, place in _MASSES.items()}
    distance = of(pl.Float64, "tokens", weight, **{f"{role}mean_distance": f"Mean distance of {_ROLES[role]}."})
    return (*distance, *of(pl.Float64, "share", weight, **shares))


#: Where a score can lie, in one role.
FOCUS = ("mean_distance", *_MASSES)


def _bounded(columns: Iterable[Column]) -> Iterator[Column]:
    """The columns without weights, each followed by its confidence interval."""
    for column in columns:
        yield replace(column, weight="")
        ends = interval(column.unit, f"{column.name}_ci_low", f"{column.name}_ci_high")
        yield from of_attention(ends) if column.of_attention else ends


HEADS = table_of(
    "sample, layer, indexer head",
    "sample layer indexer_head",
    _HEAD,
    _WEIGHT,
    of(
        pl.Float64,
        "share",
        "weight",
        active_share="Eligible keys with a ReLU above zero.",
        positive_share="Queries for which the head's weight is above zero.",
        negative_share="Queries for which the head's weight is below zero.",
        own_overlap="Selected keys that are also in the head's own top k, expected over ties.",
        random_overlap="The same for a random selector, k_t / n_t.",
    ),
    of_attention(
        of(
            pl.Float64,
            "share",
            "weight",
            own_recall="Dense attention on the head's own top k, expected over ties.",
            random_recall="The same for a random selector.",
        )
    ),
    of(
        pl.Float64,
        "share",
        "weight",
        kept="Selected keys that are in the top k of all heads' sum; below 1 where keys tie.",
        kept_without="Selected keys that are in the top k of the other heads' sum, expected over ties.",
    ),
    of_attention(
        of(
            pl.Float64,
            "share",
            "weight",
            recall="Dense attention on the selected keys.",
            recall_with="Dense attention on the top k of all heads' sum, expected over ties.",
            recall_without="Dense attention on the top k of the other heads' sum, expected over ties.",
        )
    ),
    of(pl.Float64, "queries", scored_weight=f"{_STANDS_FOR} for which some head scores a selected key."),
    of(
        pl.Float64,
        "share",
        "scored_weight",
        contribution="Share of the selected keys' sum of |w ReLU| over all heads that is the head's.",
    ),
    of(pl.Float64, "queries", focus_weight=f"{_STANDS_FOR} for which the head adds to the score of some key."),
    # Trained weights w[t, j] are often negative: such a head votes keys down, and "against_" says where those are.
    _focus("", "focus_weight"),
    _focus("uniform_", "focus_weight"),
    of(pl.Float64, "queries", against_weight=f"{_STANDS_FOR} for which the head takes from the score of some key."),
    _focus("against_", "against_weight"),
    _focus("against_uniform_", "against_weight"),
)
PAIRS = table_of(
    "sample, layer, pair of indexer heads",
    "sample layer head_a head_b",
    _PAIR,
    of(pl.Float64, "queries", weight=f"{_STANDS_FOR}."),
    of(
        pl.Float64,
        "share",
        "weight",
        overlap="Common keys of the two own top k over all their keys, expected over ties.",
    ),
    of(pl.Float64, "queries", cosine_weight=f"{_STANDS_FOR} for which both heads score some key."),
    of(pl.Float64, "cosine", "cosine_weight", cosine="Cosine of the two heads' ReLU over the eligible keys."),
    of(pl.Float64, "queries", correlation_weight=f"{_STANDS_FOR} for which both heads tell some keys apart."),
    of(pl.Float64, "correlation", "correlation_weight", correlation="Pearson correlation of the same."),
)
SCORES = table_of(
    "sample, layer, indexer head, group",
    "sample layer indexer_head group",
    _HEAD,
    of(pl.String, group="Whose scores w ReLU of the head: selected or unselected keys of queries in effect."),
    of(pl.Int64, "keys", count="Scores, each as often as its query stands for."),
    MOMENTS_OF_SCORES,
)
POSITIONS = table_of(
    "sample, layer, indexer head, axis, bin",
    "sample layer indexer_head axis bin",
    _HEAD,
    places("axis", "bin"),
    _WEIGHT,
    of(
        pl.Float64,
        "keys",
        selections="Keys of the head's own top k in the bin, expected over ties, over all queries.",
        expected_selections="The same for a random selector.",
    ),
)
PRUNING = table_of(
    "sample, layer, number of heads removed",
    "sample layer removed",
    of(pl.Int16, "heads", removed="Indexer heads that are gone."),
    of(pl.Int16, indexer_head="The head that goes at this step; null at first."),
    _WEIGHT,
    of(
        pl.Float64,
        "share",
        "weight",
        recall="Dense attention on the top k of the remaining heads' sum, expected over ties.",
        overlap="Selected keys that are in it.",
    ),
)


def _means(of_what: Table, *names: str) -> tuple[Column, ...]:
    """Means over all samples, of columns that a table of the close-up has by sample."""
    return tuple(replace(column, weight="") for name in names for column in of_what.columns if column.name == name)


FOCUSED = table_of(
    "layer, indexer head",
    "layer indexer_head",
    _HEAD,
    of(pl.String, words="What the head focuses on."),
    _bounded(_means(HEADS, "contribution", "active_share", "positive_share", "negative_share")),
    _bounded(_means(HEADS, "own_overlap", "own_recall", "kept", "kept_without")),
    _bounded(_means(HEADS, "recall", "recall_with", "recall_without")),
    _bounded(of_attention(of(pl.Float64, "share", recall_loss="Recall with all heads less recall without the head."))),
    _bounded(
        of(
            pl.Float64,
            "share",
            adds_share="Queries for which the head adds to the score of some key.",
            against_share="Queries for which the head takes from the score of some key.",
        )
    ),
    _bounded(_focus("")),
    _bounded(_focus("against_")),
    _means(HEADS, "random_overlap", "random_recall"),
    _focus("uniform_"),
    _focus("against_uniform_"),
    SAMPLES,
)
PAIRED = table_of(
    "layer, pair of indexer heads",
    "layer head_a head_b",
    _PAIR,
    _means(PAIRS, "cosine", "correlation", "overlap"),
    SAMPLES,
)
PRUNED = table_of(
    "layer, number of heads removed",
    "layer removed",
    of(pl.Int16, "heads", removed="Indexer heads that are gone from the layer, or from every layer."),
    of(pl.Int16, indexer_head="The head that goes at this step; null at first and over all layers."),
    of(
        pl.Float64,
        "share",
        recall="Dense attention on what the remaining heads select.",
        recall_loss="Recall with all heads less that; above 0 is a loss.",
    ),
    interval("share", whose="the loss'"),
    of(
        pl.Float64,
        "share",
        overlap="Keys of the model's own selection that are kept.",
        flops_share="What remains of the operations of the indexers' query-key products.",
    ),
    of(pl.Int32, "samples", n="Samples that the row is of; none had part in choosing the order."),
    of_attention=True,
)
LIFTED = table_of(
    "layer, indexer head, axis, bin",
    "layer indexer_head axis bin",
    _HEAD,
    places("axis", "bin"),
    LABEL,
    of(pl.Float64, "ratio", lift="Keys of the head's own top k relative to chance."),
    interval("ratio"),
    of(pl.Float64, "keys", selections="Keys of the own top k in the bin.", expected="The same by chance."),
    SAMPLES,
)
HEAD_MOMENTS = table_of(
    "layer, indexer head, group", "layer indexer_head group", _HEAD, MOMENTS.columns[1:], ordered=False
)
HEAD_QUANTILES = table_of(
    "layer, indexer head, group, quantile",
    "layer indexer_head group quantile",
    _HEAD,
    QUANTILES.columns[1:],
    ordered=False,
)
COLLECTED = {
    "indexer_heads": HEADS,
    "indexer_head_pairs": PAIRS,
    "indexer_head_scores": SCORES,
    "indexer_head_positions": POSITIONS,
}
REMOVED = {"indexer_pruning": PRUNING}
RESULTS = {
    **BOTH,
    "focus": FOCUSED,
    "pairs": PAIRED,
    "pruning": PRUNED,
    "lift": LIFTED,
    "score_moments": HEAD_MOMENTS,
    "score_quantiles": HEAD_QUANTILES,
}
