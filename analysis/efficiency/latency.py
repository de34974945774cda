"""Measured time and memory, as profiled."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.efficiency.tables import LATENCY
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.sums import Features
from indexscope.analysis.metrics.tables import METRICS


def latency(features: Features) -> pl.DataFrame:
    """Time and memory of one prefill by component and length.

    Returns:
        component, length, ms with low and high (median, 5th and 95th percentile of the repeats), time_share (of the
        model's median time; selection is part of indexer), peak_bytes (null where it was not measured).
    """
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return LATENCY.empty()
    whole = pl.col("milliseconds").filter(pl.col("component") == "model").first().over("length")
    rows = profile.with_columns(time_share=pl.col("milliseconds") / whole).with_columns(finite_or_null("time_share"))
    return rows.sort("component", "length").select(
        pl.col("component"),
        pl.col("length").cast(pl.Int64),
        ms=pl.col("milliseconds"),
        low=pl.col("milliseconds_low"),
        high=pl.col("milliseconds_high"),
        time_share=pl.col("time_share"),
        peak_bytes=pl.col("peak_bytes").cast(pl.Int64) if "peak_bytes" in rows.columns else pl.lit(None, pl.Int64),
    )


def latency_metrics(features: Features) -> pl.DataFrame:
    """Times, memory and shares of time at the longest profiled length.

    Returns:
        <component>_latency_ms with the range of the repeats and their number; <component>_peak_bytes (measured once)
        and indexer_time_share (a ratio of medians) without bounds.
    """
    profile = features.get("profile")
    if profile is None or profile.is_empty():
        return METRICS.empty()
    longest = profile.filter(pl.col("length") == pl.col("length").max())
    measured = latency(features).filter(pl.col("length") == pl.col("length").max())
    times = longest.select(
        metric=pl.col("component") + "_latency_ms",
        value=pl.col("milliseconds"),
        ci_low=pl.col("milliseconds_low"),
        ci_high=pl.col("milliseconds_high"),
        n=pl.col("repeats").cast(pl.Int32),
    )
    shares = measured.select(metric=pl.col("component") + "_time_share", value=pl.col("time_share"))
    bytes_ = measured.select(metric=pl.col("component") + "_peak_bytes", value=pl.col("peak_bytes").cast(pl.Float64))
    units = {name: metric.unit for name, metric in REGISTRY.items() if metric.table == "profile"}
    rows = pl.concat([times, shares, bytes_], how="diagonal").filter(pl.col("metric").is_in(list(units)))
    rows = rows.filter(pl.col("value").is_not_null())
    unit = pl.col("metric").replace_strict(units, return_dtype=pl.String)
    rows = rows.with_columns(layer=pl.lit(None, dtype=pl.Int16), unit=unit).select(*METRICS.schema)
    return rows.cast(METRICS.schema).sort("metric")
