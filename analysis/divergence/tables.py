"""The statistics of a divergence and the columns that hold them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

AGAINST = ("baseline", "dense")
"""What a model is held against: the study's baseline, or its own dense attention."""
DIVERGENCE: Mapping[str, type[pl.DataType]] = {
    "model": pl.String,
    "against": pl.String,
    "statistic": pl.String,
    "unit": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int32,
    "note": pl.String,
}
BY: Mapping[str, type[pl.DataType]] = {
    "model": pl.String,
    "against": pl.String,
    "axis": pl.String,
    "bin": pl.Int16,
    "label": pl.String,
    "statistic": pl.String,
    "unit": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n": pl.Int32,
}
POSITION, CLASS = "position", "token class"
#: Percentiles of llama.cpp's report; its 99.9 % and 0.1 % need more queries than a probe has.
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
