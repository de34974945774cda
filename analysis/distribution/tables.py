"""The tables of metrics by layer, head and position, and of the distributions of the index scores."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import of, places, table_of

_VALUE = of(pl.Float64, "as the metric", value="The metric's value.")
_SCORES = of(pl.String, group="Whose index scores: selected or unselected keys of queries in effect.")
BY_BUCKET = table_of(
    "metric, layer, bucket",
    "metric layer bucket",
    _VALUE,
    of(pl.Int32, "samples", n="Samples that the value is of."),
    ordered=False,
)
BY_HEAD = table_of("metric, layer, head", "metric layer head", _VALUE, ordered=False)
HISTOGRAM = table_of(
    "layer, group, bin",
    "layer group left",
    _SCORES,
    of(pl.Float64, "score", left="Lower edge of the bin.", right="Upper edge of the bin."),
    of(pl.Float64, "1/score", density="Share of the scores in the bin by its width."),
    of(pl.Float64, "keys", count="Scores in the bin."),
    ordered=False,
)
MOMENTS = table_of(
    "layer, group",
    "layer group",
    _SCORES,
    of(pl.Int64, "keys", count="Scores."),
    of(
        pl.Float64,
        "score",
        mean="Mean score.",
        sd="Standard deviation of the scores.",
        minimum="Smallest score.",
        maximum="Largest score.",
    ),
    of(pl.Float64, "share", zero_share="Scores that are exactly zero."),
    ordered=False,
)
QUANTILES = table_of(
    "layer, group, quantile",
    "layer group quantile",
    _SCORES,
    of(pl.Float64, "share", quantile="Share of the scores at or below the value."),
    of(pl.Float64, "score", value="The quantile."),
    of(pl.Int64, "keys", count="Scores."),
    ordered=False,
)
RECALLS = table_of(
    "layer, bucket, quantile",
    "layer bucket quantile",
    of(pl.Float64, "share", quantile="Share of the queries at or below the value; 0 is the smallest of all."),
    of(pl.Float64, "share", value="The quantile of selection_recall over single queries of all samples."),
    of(pl.Int64, "queries", count="Queries in effect."),
    ordered=False,
)
LOWEST = table_of(
    "layer",
    "layer",
    of(pl.Float64, "share", value="The smallest selection_recall of any query."),
    places("sample"),
    of(pl.Int32, "tokens", position="Position of that query, counted from 0."),
    ordered=False,
)
RESULTS = {
    **BOTH,
    "by_bucket": BY_BUCKET,
    "by_head": BY_HEAD,
    "recall_quantiles": RECALLS,
    "worst_queries": LOWEST,
    "score_histogram": HISTOGRAM,
    "score_moments": MOMENTS,
    "score_quantiles": QUANTILES,
}
