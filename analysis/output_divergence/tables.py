"""The statistics of a divergence and the columns that hold them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.analysis.metrics.tables import PAIRED
from indexscope.columns import Column, interval, of, table_of

AGAINST = ("baseline", "dense")
"""What a model is held against: the study's baseline, or its own dense attention."""
_AGAINST = of(
    pl.String,
    model="The model's name in the study.",
    against="What it is held against: baseline, or dense for its own dense attention.",
)
_VALUES: tuple[Column, ...] = (
    *of(
        pl.String,
        statistic="Name of the statistic: a metric of docs/metrics.md, or as in docs/what-changed.md.",
        unit="Unit of the value.",
    ),
    *of(pl.Float64, "in the column unit", value="Its value."),
    *interval(whose="the", more="; null for the largest value seen"),
    *of(pl.Int32, "samples", n="Samples that were paired."),
)
DIVERGENCE = table_of(
    "model, against, statistic",
    "model against statistic",
    _AGAINST,
    _VALUES,
    of(pl.String, note="Why there is no value; null where there is one."),
    ordered=False,
)
BY = table_of(
    "model, against, axis, bin, statistic",
    "model against axis bin statistic",
    _AGAINST,
    of(
        pl.String,
        axis="What the rows are divided by: position of the query, or token class of the true next token.",
    ),
    of(pl.Int16, bin="Position bucket, or place of the class in docs/metrics.md."),
    of(pl.String, label="The bin in words."),
    _VALUES,
    ordered=False,
)
COMPARED = {"output_divergence": DIVERGENCE, "output_divergence_by": BY, "metrics": PAIRED}
POSITION, CLASS = "position", "token class"
#: Percentiles of llama.cpp's report; its 99.9 % and 0.1 % need more queries than a close-up has.
KL_LEVELS = {"output_kl_p1": 0.01, "output_kl_p10": 0.1, "output_kl_median": 0.5, "output_kl_p90": 0.9,
             "output_kl_p95": 0.95, "output_kl_p99": 0.99}  # fmt: skip
CHANGE_LEVELS = {"probability_change_p1": 0.01, "probability_change_p10": 0.1, "probability_change_p25": 0.25,
                 "probability_change_median": 0.5, "probability_change_p75": 0.75, "probability_change_p90": 0.9,
                 "probability_change_p99": 0.99}  # fmt: skip
UNITS: Mapping[str, str] = {
    "perplexity_ratio": "ratio",
    "log_perplexity_correlation": "correlation",
    "output_kl": "nats",
    **dict.fromkeys(KL_LEVELS, "nats"),
    "output_kl_max": "nats",
    "output_merged": "share",
    "probability_change": "share",
    "probability_change_rms": "share",
    **dict.fromkeys(CHANGE_LEVELS, "share"),
    "same_top_token": "share",
}
"""Unit of every statistic, in the order of the tables."""
LABELS: Mapping[str, str] = {
    "output_kl_max": "KL divergence: largest",
    "output_merged": "probability not told apart",
    "probability_change": "Δp of the true token: mean",
    "probability_change_median": "Δp of the true token: median",
    **{name: f"KL divergence: {level * 100:g}\u202f%" for name, level in KL_LEVELS.items()},
    **{name: f"Δp of the true token: {level * 100:g}\u202f%" for name, level in CHANGE_LEVELS.items() if level != 0.5},
}
"""What the statistics that are no metrics are called; a metric says so itself."""
