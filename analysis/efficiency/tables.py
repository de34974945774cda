"""The tables of what indexer and attention cost, measured and by formula."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.conventions import CONVENTIONS
from indexscope.analysis.metrics.tables import BOTH, PREFIXED
from indexscope.columns import SAMPLES, interval, of, places, table_of

_DIMENSIONS = of(pl.String, dimensions="Whose dimensions: those of this checkpoint, or of DeepSeek-V3.2.")
_CONVENTION = of(
    pl.String,
    convention="What counts as an operation; "
    + "; ".join(f"{one.name}: {one.meaning}" for one in CONVENTIONS)
    + ". Those that begin with MQA where attention has latents.",
)
LATENCY = table_of(
    "component, length",
    "component length",
    of(pl.Int64, "tokens", length="Length of the sequence."),
    of(
        pl.Float64,
        "ms",
        ms="Median time.",
        low="5th percentile of the times; null where there is one.",
        high="95th percentile of the times; null where there is one.",
    ),
    of(pl.Float64, "share", time_share="Share of the whole model's median time; selection is part of indexer."),
    of(pl.Int64, "bytes", peak_bytes="Largest memory of one call above what was alive before it."),
    ordered=False,
)
PROJECTION = table_of(
    "dimensions, convention, length, component",
    "dimensions convention length component",
    _DIMENSIONS,
    _CONVENTION,
    of(pl.Int64, "tokens", length="Length of the context."),
    places("component"),
    of(pl.Float64, "FLOPs", flops="Operations of one prefill of that length by formula, all layers together."),
    ordered=False,
)
CONVENTION_COSTS = table_of(
    "dimensions, convention",
    "dimensions convention",
    _DIMENSIONS,
    _CONVENTION,
    of(
        pl.Int64,
        "tokens",
        break_even_length="Shortest prefill at which indexer and sparse attention need less than dense attention; null "
        "where they never do.",
    ),
    of(
        pl.Float64,
        "ratio",
        relative_cost="Indexer and sparse attention relative to dense attention at the lengths of the study's samples.",
    ),
    ordered=False,
)
PATTERNS_PARETO = table_of(
    "level, layer, head, pattern type",
    "level layer head pattern_type",
    of(pl.String, level="What the row is of: layer, head or pattern type."),
    places("layer", "head"),
    of(pl.String, pattern_type="The pattern type; null at the other levels."),
    of(pl.Float64, "share", cost="Share of the eligible keys that hold 95 % of the attention."),
    interval("share", "cost_low", "cost_high"),
    of(pl.Float64, "share", quality="Dense attention that falls on selected keys."),
    interval("share", "quality_low", "quality_high"),
    of(pl.Float64, "ratio", output_error="Relative change of the output by the selection."),
    interval("ratio", "output_error_low", "output_error_high"),
    of(pl.Boolean, on_front="Whether no other row of the level costs at most as much and keeps at least as much."),
    SAMPLES,
    ordered=False,
)
RESULTS = {
    **BOTH,
    **PREFIXED,
    "latency": LATENCY,
    "projection": PROJECTION,
    "conventions": CONVENTION_COSTS,
    "patterns_pareto": PATTERNS_PARETO,
}
