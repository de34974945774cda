"""What the numbers rest on, and how small a difference the study would see."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count, known, number
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.spoken import leading

_METRICS = ("nll", "selection_recall")


def say(report: ReportInput) -> list[str]:
    """Samples and intervals, and the smallest difference of the first metric that would be detected."""
    if not report.samples:
        return []
    text = f"Intervals are {report.interval}, of {count(report.samples)} samples"
    for page in leading(report)[:1]:
        rows = report.own_comparisons(page.name).filter(
            pl.col("layer").is_null() & pl.col("metric").is_in(_METRICS) & pl.col("mde").is_finite()
        )
        for row in rows.sort("metric").head(1).iter_rows(named=True):
            weighs = known(row["n_effective"])
            if weighs is not None and weighs < 0.95 * row["n"]:
                text += f" that weigh as {number(weighs, places=1)} of equal length"
            unit = "" if row["unit"] == "share" else f" {row['unit']}"
            least = float(f"{row['mde']:.2g}")
            text += (
                f"; a difference of {label(row['metric'])} of {number(least)}{unit} between "
                f"{plain(page.name)} and the baseline would be detected four times in five"
            )
    return [f"{text}."]


ANSWER = Answer("trust", 10, say)
