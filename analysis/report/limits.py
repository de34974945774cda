"""What a reader must know before quoting a number of a report."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import known, percent
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.warnings import warnings

FEW_SAMPLES = 10


def limits(report: ReportInput) -> list[str]:
    """What a reader must know before quoting a number."""
    told = []
    warned = {warning.model for warning in warnings(report) if warning.kind in ("nothing", "little")}
    for page in report.measured:
        row = report.own_metrics(page.name).filter((pl.col("metric") == "in_effect") & pl.col("layer").is_null())
        share = known(row["value"][0]) if row.height else None
        if share is not None and page.name not in warned:
            told.append(
                f"The indexer of {plain(page.name)} is in effect for {percent(share)} of the queries; "
                "recall and overlap count those only."
            )
    dense = [plain(page.name) for page in report.measured if not page.has_indexer]
    if dense and report.candidates:
        told.append(f"Without an indexer, so nothing is said of a selection: {join(dense)}.")
    if 0 < report.samples < FEW_SAMPLES:
        told.append(f"Only {report.samples} samples: bootstrap intervals from so few are themselves uncertain.")
    unaudited = set(page.name for page in report.measured) - set(report.causality.drop_nulls("passed")["model"])
    if unaudited:
        names = [plain(page.name) for page in report.measured if page.name in unaudited]
        told.append(f"Not audited for causality: {join(names)}.")
    return told
