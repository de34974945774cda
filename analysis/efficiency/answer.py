"""What indexers cost: against the baseline's, and together with attention against dense attention."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.recommendations.costs import LONG
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import known, number, percent
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import called, leading


def say(report: ReportInput) -> list[str]:
    """Indexers beside the baseline's; the share of dense attention's cost, or what a model without indexer costs."""
    pages = leading(report)
    found = [text for page in pages if (text := _against_baseline(report, page))]
    shown = [*([report.baseline] if report.baseline is not None else []), *pages] or report.measured[:1]
    found += _relative(report, [page for page in shown if page.has_indexer])
    dense = [text for page in shown if not page.has_indexer and (text := _dense(report, page))]
    return [*found, *dense]


def _metric(report: ReportInput, model: str, metric: str) -> float | None:
    rows = report.own_metrics(model).filter((pl.col("metric") == metric) & pl.col("layer").is_null())
    return known(rows["value"][0]) if rows.height else None


def _against_baseline(report: ReportInput, page: ModelPage) -> str:
    rows = report.own_comparisons(page.name).filter(pl.col("layer").is_null() & pl.col("difference").is_finite())
    of = {row["metric"]: row for row in rows.iter_rows(named=True)}
    flops, time = of.get("indexer_flops"), of.get("indexer_latency_ms")
    told = []
    if flops is not None and flops["baseline"]:
        told.append(f"takes {_change(flops['difference'] / flops['baseline'], 'fewer')} FLOPs")
    if time is not None and time["baseline"]:
        low, high = known(time["ci_low"]), known(time["ci_high"])
        spread = "timed once" if low is None or high is None else "beyond the spread of the repeats"
        if low is not None and high is not None and low <= 0 <= high:
            spread = "within the spread of the repeats"
        told.append(
            f"{_change(time['difference'] / time['baseline'])} time as measured here "
            f"({number(time['value'], places=1)} instead of {number(time['baseline'], places=1)} ms, {spread})"
        )
    return f"The indexer of {called(report, page)} {join(told)} than the baseline's." if told else ""


def _change(share: float, less: str = "less") -> str:
    return f"{percent(float(f'{abs(share):.3g}'))} {less if share < 0 else 'more'}"


def _relative(report: ReportInput, pages: Sequence[ModelPage]) -> list[str]:
    """Cost of indexer and attention in per cent of dense attention's: at the study's lengths, at 64 k, or at both."""
    shares = {
        "at the study's lengths": [_metric(report, page.name, "relative_cost") for page in pages],
        "at 64 k tokens": [_at_long(page) for page in pages],
    }
    held = {where: own for where, own in shares.items() if own and None not in own}
    if not held:
        return []
    told = [
        f"{' and '.join(_share(own[place]) for own in held.values())} ({plain(page.name)})"
        for place, page in enumerate(pages)
    ]
    return [
        f"By formula, as served, indexer and attention together cost {' and '.join(held)} {join(told)} of what dense "
        "attention does."
    ]


def _share(share: float | None) -> str:
    return percent(float(f"{share or 0.0:.3g}"))


def _at_long(page: ModelPage) -> float | None:
    from indexscope.analysis.efficiency.panel import relative_to_dense

    rows = relative_to_dense(page.frame("efficiency", "projection"))
    found = None if rows is None else rows.filter(pl.col("length") == LONG)["relative"]
    return None if found is None or found.is_empty() else float(found[0])


def _dense(report: ReportInput, page: ModelPage) -> str:
    flops, time = (_metric(report, page.name, name) for name in ("attention_flops", "attention_latency_ms"))
    if flops is None:
        return ""
    measured = "" if time is None else f", measured {number(time, places=1)} ms in a prefill of the longest length"
    return f"{plain(page.name)} has no indexer; its attention takes {number(flops, 'FLOPs')}FLOPs a token{measured}."


ANSWER = Answer("costs", 10, say)
