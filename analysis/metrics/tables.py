"""The tables that all analyses share: estimates of metrics, and what they are made of by sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from indexscope.columns import interval, of, table_of

METRICS = table_of(
    "metric, layer",
    "metric layer",
    of(pl.Float64, "in the column unit", value="The metric's value."),
    of(pl.String, unit="Unit of the value."),
    interval(whose="the"),
    of(pl.Int32, "samples", n="Samples that the value is of."),
    ordered=False,
)
#: Metrics of a candidate and the baseline together: the table ``metrics`` of a question that compares.
PAIRED = table_of("candidate, metric, layer", "candidate metric layer", METRICS.columns[2:], ordered=False)
PER_SAMPLE = table_of(
    "metric, layer, sample",
    "metric layer sample",
    of(pl.Float64, "as the metric", "weight", value="The metric's value in the sample."),
    of(pl.Float64, weight="What the value is weighted by when samples are put together."),
    ordered=False,
)
#: Which queries a context length stands for.
UP_TO, AT = "up to", "at"
LENGTH = of(pl.Int32, "tokens", length="Context length: 2^m - 1, or the longest sample's where that is shorter.")
KIND = of(pl.String, kind='Which queries: "up to" the length, or "at" it, those of the last power of two alone.')
BOTH = {"metrics": METRICS, "per_sample": PER_SAMPLE}
PREFIX = of(
    pl.Int32,
    "tokens",
    length="Length that the study asks for: the row is of the first so many tokens of all samples that have them.",
)
#: What an analysis gives at each length that a study asks for, as BOTH for whole samples.
PREFIXED = {
    "at_lengths": table_of("metric, layer, length", "metric layer length", PREFIX, METRICS.columns[2:], ordered=False),
    "at_lengths_by_sample": table_of(
        "metric, layer, length, sample",
        "metric layer length sample",
        PREFIX,
        PER_SAMPLE.columns[3:],
        ordered=False,
    ),
}
#: The table of whole samples that each stands for.
AT_LENGTHS = {"at_lengths": "metrics", "at_lengths_by_sample": "per_sample"}


def at_each_length(found: Iterable[tuple[int, Mapping[str, pl.DataFrame]]]) -> dict[str, pl.DataFrame]:
    """The tables of `PREFIXED`, without rows where there are no lengths.

    Args:
        found: Lengths, and what an analysis of samples no longer than that gives: the tables of `BOTH`.
    """
    parts = {name: [table.empty()] for name, table in PREFIXED.items()}
    for length, frames in found:
        for name, source in AT_LENGTHS.items():
            rows = frames[source].with_columns(length=pl.lit(length, pl.Int32))
            parts[name].append(PREFIXED[name].shaped(rows))
    return {name: pl.concat(frames) for name, frames in parts.items()}
