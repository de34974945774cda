"""What the changed selection does to predictions."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.spoken import called, leading, share, with_interval


def say(report: ReportInput) -> list[str]:
    """A sentence a candidate that is named."""
    return [text for page in leading(report) if (text := _of(report, page))]


def _of(report: ReportInput, page: ModelPage) -> str:
    frame = page.frame("output_divergence", "output_divergence")
    if frame is None:
        return ""
    known = frame.filter((pl.col("against") == "baseline") & pl.col("value").is_finite())
    rows = {row["statistic"]: row for row in known.iter_rows(named=True)}
    if not {"output_kl", "same_top_token"} <= rows.keys():
        return ""
    same = rows["same_top_token"]
    return (
        f"The predictions of {called(report, page)} diverge from the baseline's by {with_interval(rows['output_kl'])} "
        f"nats on average, and the likeliest token stays the same after {share(same)} of the queries."
    )


ANSWER = Answer("changed", 20, say)
