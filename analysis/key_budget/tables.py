"""The tables of how many keys would do and of how scores drift: the close-up's and the analysis'."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import SAMPLES, band, of, table_of

_QUERIES = (
    *of(pl.Int32, "queries", queries="Sampled queries of the row."),
    *of(pl.Float64, "queries", weight="Queries that they stand for."),
)
_K = of(pl.Int32, "keys", k="Keys that every query may attend to at most.")

KEYS_NEEDED = table_of(
    "sample, layer, bucket, target",
    "sample layer bucket target",
    of(pl.Float64, "share", target="Share of the head-mean attention that the keys are to hold."),
    _QUERIES,
    of(pl.Float64, "keys", "weight", eligible="Eligible keys.", attended="Keys that the model attends to."),
    of(pl.Int32, "keys", own_k="Most keys that one query selects; null where the layer is dense."),
    of(pl.Float64, "share", "weight", own_recall="Attention on the keys that the model attends to."),
    of(pl.Float64, "keys", "weight", oracle_keys="Keys needed if the most attended come first."),
    of(pl.Float64, "share", "weight", oracle_mass="What these hold."),
    of(
        pl.Float64,
        "keys",
        "weight",
        indexer_keys="Keys needed in the order of the index scores, equal scores counting as their mean.",
    ),
    of(pl.Float64, "share", "weight", indexer_mass="What these hold."),
)
RECALL_AT_K = table_of(
    "sample, layer, k",
    "sample layer k",
    _K,
    _QUERIES,
    of(
        pl.Float64,
        "share",
        "weight",
        indexer_recall="Attention on the k keys of the largest index scores, in expectation over ties.",
        oracle_recall="Attention on the k most attended keys.",
    ),
    of(pl.Float64, "keys", "weight", kept="Keys attended to: the smaller of k and the eligible keys."),
)
SCORE_DRIFT = table_of(
    "sample, layer, bucket",
    "sample layer bucket",
    of(pl.Int32, "queries", queries="Sampled queries with more than one scored key."),
    of(pl.Float64, "queries", weight="Queries that they stand for."),
    of(
        pl.Float64,
        "score",
        "weight",
        mean="Mean index score of a query's eligible keys.",
        sd="Standard deviation of a query's index scores.",
    ),
    of(pl.Float64, "share", "weight", zero_share="Keys whose score is exactly zero."),
    of(pl.Int32, "queries", queries_in_effect="Those of them in effect."),
    of(pl.Float64, "queries", weight_in_effect="Queries that these stand for."),
    of(pl.Float64, "score", "weight_in_effect", threshold="The k-th score: the last that is selected."),
    of(pl.Float64, "sd", "weight_in_effect", margin="How far the k-th score lies above the next one."),
    of(
        pl.Float64,
        "score",
        "weight_in_effect",
        selected_mean="Mean score of the selected keys.",
        selected_sd="Standard deviation of the selected keys' scores.",
        unselected_mean="Mean score of the keys that are not selected.",
        unselected_sd="Standard deviation of their scores.",
    ),
)
BUDGETS = table_of(
    "layer, target, method",
    "layer target method",
    of(pl.Float64, "share", target="Share of the attention to be held; null for the model's own budget."),
    of(
        pl.String,
        method="Whose budget: the model's, one k for all queries or for a layer, or one for each query in an order.",
    ),
    of(
        pl.Float64,
        "keys",
        k="The k of all queries, interpolated; null for budgets of each query's own, and if never reached.",
        keys="Keys attended to by a query on average.",
    ),
    band("keys"),
    of(pl.Float64, "share", recall="Attention that they hold.", share="The keys as a share of the eligible ones."),
    of(pl.Float64, "ratio", relative_attention="The keys relative to those that the model attends to."),
    SAMPLES,
    ordered=False,
    of_attention=True,
)
CURVE = table_of(
    "layer, k",
    "layer k",
    _K,
    of(pl.Float64, "share", indexer_recall="Attention on the k keys of the largest index scores."),
    band("share"),
    of(pl.Float64, "share", oracle_recall="Attention on the k most attended keys."),
    band("share", "oracle_"),
    of(pl.Float64, "keys", kept="Keys attended to by a query on average."),
    SAMPLES,
    of_attention=True,
)
DRIFT = table_of(
    "layer, bucket, quantity",
    "layer bucket quantity",
    of(pl.String, quantity="Column of the close-up's score_drift."),
    of(pl.Float64, "as in score_drift", value="Its mean over queries."),
    band("as in score_drift"),
    SAMPLES,
    ordered=False,
)
COLLECTED = {"keys_needed": KEYS_NEEDED, "recall_at_k": RECALL_AT_K, "score_drift": SCORE_DRIFT}
RESULTS = {**BOTH, "budgets": BUDGETS, "curve": CURVE, "drift": DRIFT}
