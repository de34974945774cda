"""Whether another correct computation would select the same."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import leading, share

_TOLD = {"ties": "ties the other way", "bfloat16": "scores in bfloat16", "fp8": "scores in simulated FP8"}


def say(report: ReportInput) -> list[str]:
    """A sentence for the candidates that are named, or for the baseline where there are none."""
    pages = leading(report) or report.measured[:1]
    return [text for page in pages if (text := _of(page))]


def _of(page: ModelPage) -> str:
    frame = page.frame("stability", "variants")
    if frame is None:
        return ""
    rows = {
        row["variant"]: row
        for row in frame.filter(pl.col("layer").is_null() & pl.col("changed").is_finite()).iter_rows(named=True)
    }
    told = [f"{what} {share(rows[name], 'changed')}" for name, what in _TOLD.items() if name in rows]
    return f"Of the selection of {plain(page.name)} another computation would change: {join(told)}." if told else ""


ANSWER = Answer("trust", 20, say)
