"""One sentence a model that a paper can quote: what its selection keeps of the best choice, at what cost and loss."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import digits, known, percent
from indexscope.analysis.report.ranking import advised
from indexscope.analysis.report.spoken import Row, share

#: As many as a sweep has; the table of the ranking has the numbers of all.
MOST = 24
ROUNDING = 1e-5


def quotes(report: ReportInput) -> tuple[str, ...]:
    """A sentence for each measured candidate that selects, the best ranked first, so many at most."""
    pages = {page.name: page for page in report.candidates}
    found = (_quote(report, pages[name]) for name in advised(report) if name in pages)
    return tuple(sentence for sentence in found if sentence)[:MOST]


def _quote(report: ReportInput, page: ModelPage) -> str:
    parts = list(_parts(report, page))
    if len(parts) < 2:
        return ""
    return f"{plain(page.name)}: {', '.join(parts)} (n = {report.samples} samples, {percent(report.confidence)} CI)."


def _parts(report: ReportInput, page: ModelPage) -> Iterator[str]:
    recall, cost = (_overall(report.own_metrics(page.name), name) for name in ("recall_of_oracle", "relative_cost"))
    if recall is not None:
        yield f"{_share(recall)} of the best choice's recall"
    if cost is not None:
        yield f"{percent(cost['value'])} of the cost of dense attention"
    loss = _overall(report.own_comparisons(page.name), "nll", "difference")
    base = report.baseline
    if loss is not None and base is not None:
        style = digits("", (loss["difference"],), (loss["ci_low"], loss["ci_high"]))
        told = style.number(loss["difference"], signed=True)
        around = (
            "" if known(loss["ci_low"]) is None else f" ({style.span(loss['ci_low'], loss['ci_high'], signed=True)})"
        )
        yield f"{told}{around} nats against {plain(base.name)}"


def _share(row: Row) -> str:
    """A share with its interval, without one that is nothing but rounding, as the oracle's."""
    low, high = known(row["ci_low"]), known(row["ci_high"])
    return percent(row["value"]) if low is None or high is None or high - low < ROUNDING else share(row)


def _overall(frame: pl.DataFrame, metric: str, value: str = "value") -> Row | None:
    rows = frame.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col(value).is_finite())
    return None if rows.is_empty() else rows.row(0, named=True)
