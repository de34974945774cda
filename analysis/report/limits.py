"""What a reader must know before quoting a number of a report."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.comparison.budgets import OTHER_K, SHARE
from indexscope.analysis.comparison.verdicts import FEWEST, fewer, fewest_for_equivalence
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import known, number, percent
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.warnings import warnings

FEW_SAMPLES = 10
#: Effective samples over samples below which it is said that few carry the weight.
UNEVEN = 0.5


def _weighing(report: ReportInput, page: ModelPage) -> str:
    """That few samples carry the comparison: because they are few, or weigh most."""
    overall = report.own_comparisons(page.name).filter(pl.col("layer").is_null() & pl.col("n_effective").is_finite())
    rows = overall.filter(pl.col("metric").is_in(HEADLINE)).sort("n_effective")
    if rows.is_empty():
        return ""
    least, n = float(rows["n_effective"][0]), int(rows["n"][0])
    needed = fewest_for_equivalence(report.confidence)
    told = ""
    if least < n * UNEVEN:
        told = (
            f"The samples of {plain(page.name)} weigh unequally: for {label(rows['metric'][0])} {n} samples say as "
            f"much as {number(least, places=1)} of equal length. "
        )
    if fewer(least, FEWEST):
        told += f"Below {FEWEST} such samples no difference is judged."
    elif least < needed:
        told += f"Below {needed} such samples nothing is called equivalent: a loss in one sample of ten may not show."
    return told.strip()


def _other_k(report: ReportInput, page: ModelPage) -> str:
    """That recall does not compare, where a candidate selects another share of the keys than the baseline."""
    overall = report.own_comparisons(page.name).filter(pl.col("layer").is_null())
    share = overall.filter(pl.col("metric") == SHARE)
    if share.is_empty() or OTHER_K not in overall["verdict"]:
        return ""
    own, base = percent(float(share["value"][0])), percent(float(share["baseline"][0]))
    return (
        f"k differs: {plain(page.name)} selects {own} of the keys and the baseline {base}. More keys raise "
        f"{label('selection_recall')} by themselves, so it is not judged; {label('selection_skill')} compares."
    )


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
    told += [text for page in report.candidates if (text := _other_k(report, page))]
    dense = [plain(page.name) for page in report.measured if not page.has_indexer]
    if dense and report.candidates:
        told.append(f"Without an indexer, so nothing is said of a selection: {join(dense)}.")
    if 0 < report.samples < FEW_SAMPLES:
        told.append(f"Only {report.samples} samples: bootstrap intervals from so few are themselves uncertain.")
    told += [text for page in report.candidates if (text := _weighing(report, page))]
    unaudited = set(page.name for page in report.measured) - set(report.causality.drop_nulls("passed")["model"])
    if unaudited:
        names = [plain(page.name) for page in report.measured if page.name in unaudited]
        told.append(f"Not audited for causality: {join(names)}.")
    return told
