"""Measured latency, as profiled."""

from __future__ import annotations

import polars as pl

from analysis.metrics.registry import REGISTRY
from analysis.metrics.summary import METRICS
from analysis.metrics.sums import Features

LATENCY = {"component": pl.String, "length": pl.Int64, "ms": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def latency(features: Features) -> pl.DataFrame:
    """Milliseconds of one prefill by component and length: median, 5th and 95th percentile of the repeats."""
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return pl.DataFrame(schema=LATENCY)
    return profile.sort("component", "length").select(
        pl.col("component"),
        pl.col("length").cast(pl.Int64),
        ms=pl.col("milliseconds"),
        low=pl.col("milliseconds_low"),
        high=pl.col("milliseconds_high"),
    )


def latency_metrics(features: Features) -> pl.DataFrame:
    """<component>_latency_ms at the longest profiled length, with the range of the repeats and their number."""
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return pl.DataFrame(schema=METRICS)
    longest = profile.filter(pl.col("length") == pl.col("length").max())
    rows = longest.select(
        metric=pl.col("component") + "_latency_ms",
        layer=pl.lit(None, dtype=pl.Int16),
        value=pl.col("milliseconds"),
        unit=pl.lit("ms"),
        ci_low=pl.col("milliseconds_low"),
        ci_high=pl.col("milliseconds_high"),
        n=pl.col("repeats"),
    ).cast(METRICS)  # type: ignore[arg-type]
    return rows.filter(pl.col("metric").is_in(list(REGISTRY))).sort("metric")
