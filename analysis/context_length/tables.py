"""The tables of the analysis by context length."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.comparison.tables import AT_LENGTHS as COMPARED_AT_LENGTHS
from indexscope.analysis.metrics.tables import BOTH, KIND, LENGTH, PREFIXED
from indexscope.columns import interval, of, places, table_of

LENGTHS = table_of(
    "metric, layer, kind, length",
    "metric layer kind length",
    places("metric"),
    LENGTH,
    places("layer"),
    KIND,
    of(pl.Float64, "as the metric", value="The metric's value."),
    interval("as the metric", whose="the"),
    of(pl.Int32, "samples", n="Samples with such queries."),
    ordered=False,
)
BY_SAMPLE = table_of(
    "metric, bucket, sample",
    "metric bucket sample",
    places("metric"),
    places("bucket", dtype=pl.Int16),
    of(pl.Int32, "tokens", length="Context length that ends with the bucket."),
    places("sample"),
    of(
        pl.Float64,
        "as the metric",
        "weight",
        value="The metric's value over the sample's queries in the bucket, all layers.",
    ),
    of(pl.Float64, weight="What the value is weighted by when samples or buckets are put together."),
    ordered=False,
)
ONSET = table_of(
    "metric, layer",
    "metric layer",
    of(
        pl.Int32,
        "tokens",
        first_length="End of the first position bucket in which the indexer leaves something out.",
        longest="End of the last position bucket.",
        length="End of the bucket from which on the metric is detectably worse than in the first; null: in none.",
    ),
    of(
        pl.Float64,
        "as the metric",
        loss="How much worse the last bucket is than the first, paired by sample; below 0 it is better.",
    ),
    interval("as the metric", whose="the loss's"),
    of(pl.Int32, "samples", n="Samples that reach the last bucket."),
    ordered=False,
)
RESULTS = {**BOTH, **PREFIXED, "lengths": LENGTHS, "by_sample": BY_SAMPLE, "onset": ONSET}
#: What the comparison of the study gives at those lengths, shown with the rest.
COMPARED = {"compared_at_lengths": COMPARED_AT_LENGTHS}
