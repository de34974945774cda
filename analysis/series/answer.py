"""At which step something broke, and when the last metric settled."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import few
from indexscope.analysis.series.figures import step_text
from indexscope.analysis.series.panel import judged, overall_changes


def say(report: ReportInput) -> Sequence[str]:
    """A sentence a series of enough members."""
    found = []
    for page in report.models:
        course = page.frame("series", "series")
        if course is None or not (looked := judged(page.analyses["series"])):
            continue
        row = course.row(0, named=True)
        changes = overall_changes(page.analyses["series"])
        worse = changes.filter(~pl.col("better")).sort("step")
        steps = f"{row['members']} members of {plain(row['series'])} ({row['axis']} {step_text(row['first'])} to "
        told = f"Over the {steps}{step_text(row['newest'])}) "
        if worse.height:
            first = worse.row(0, named=True)
            others = [label(name) for name in worse["metric"].unique(maintain_order=True) if name != first["metric"]]
            told += (
                f"{label(first['metric'])} gets worse at {row['axis']} {step_text(first['step'])} (CI after "
                f"{step_text(first['ci_low'])} up to {step_text(first['ci_high'])})"
            )
            told += f", and {few(others)} as well." if others else "."
        elif changes.height:
            last = changes.sort("step").row(-1, named=True)
            moved = few([label(name) for name in changes["metric"].unique(maintain_order=True)])
            told += (
                f"no headline metric gets worse; the level of {moved} changes, last at {row['axis']} "
                f"{step_text(last['step'])} (CI after {step_text(last['ci_low'])} up to {step_text(last['ci_high'])})."
            )
        else:
            told += f"no level of {len(looked)} headline metrics changes detectably."
        found.append(told)
    return found


ANSWER = Answer("changed", 0, say)
