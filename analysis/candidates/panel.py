"""What each candidate changes, and what it pays for it."""

from __future__ import annotations

from indexscope.analysis.candidates.key_figures import key_differences
from indexscope.analysis.candidates.sweep_figures import beyond, sweep
from indexscope.analysis.candidates.tradeoff_figures import quality_against_cost
from indexscope.analysis.candidates.trend_figures import key_trends
from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.kinds import kinds
from indexscope.analysis.report.numbers import number, percent
from indexscope.analysis.report.overlaid import left_out, looks
from indexscope.analysis.report.panel import Drawn, Panel


def across(report: ReportInput) -> list[Drawn]:
    """Quality against cost of a sweep, or key numbers against the baseline, of many candidates in their order."""
    of_sweep = _sweep(report)
    if of_sweep is not None:
        return [of_sweep, _trends(report) if left_out(report) else _key_numbers(report)]
    return [_trends(report) if left_out(report) else _key_numbers(report), _tradeoff(report)]


def _sweep(report: ReportInput) -> Drawn | None:
    known, base = kinds(report), report.baseline
    if not known or base is None:
        return None
    figure = sweep(report.comparisons, report.metrics, known, base.name, report.leaking)
    caption = (
        "Indexer and attention by formula, as served; the difference is from the baseline, with its "
        f"{report.interval}. Colour: the fitted indexer. Shape: how its layers select; edited means heads, keys by "
        "layer, sharing or precision. Numbers: keys of a query. Dotted: the best choice of as many keys, whose cost "
        "counts no indexer; no real model has it. Dashed: the Pareto front of the others by the estimates; hollow "
        "models are beaten in both."
    )
    if figure is None:
        return None
    told = ", ".join(f"{plain(name)} ({number(value, signed=True)})" for name, value in beyond(figure))
    caption += f" Arrows, beyond the axis: {told}." if told else ""
    return Drawn("sweep", "Quality against cost", caption, figure, overlaid=False)


def _key_numbers(report: ReportInput) -> Drawn:
    candidates = {page.name for page in report.candidates}
    return Drawn(
        "key-numbers",
        "Key numbers",
        f"Differences from the baseline in units of each metric's margin, better to the right, and in print; bars: "
        f"{report.interval}, of which about {percent(1 - report.confidence)} miss zero by chance where nothing "
        "differs. Grey: within the margin. Hollow: no difference detected. Below the line: change relative to the "
        "baseline of what has no margin.",
        key_differences(report.comparisons, {name: look for name, look in looks(report).items() if name in candidates}),
    )


def _tradeoff(report: ReportInput) -> Drawn:
    return Drawn(
        "tradeoff",
        "Quality against cost",
        "Indexer and attention by formula, as served; the difference is from the baseline, with its "
        f"{report.interval}. Dotted: the "
        "Pareto front by the estimates; hollow models are beaten in both, a cross leaks. Small and grey: those "
        "that are not among the best ranked.",
        quality_against_cost(report.comparisons, report.metrics, looks(report), report.leaking),
        overlaid=False,
    )


def _trends(report: ReportInput) -> Drawn:
    return Drawn(
        "key-trends",
        "Key numbers of all candidates",
        f"Difference from the baseline, candidates in the order of the study; bars: {report.interval}. Grey: within "
        "the metric's margin. Hollow: no difference detected.",
        key_trends(report.comparisons, [page.name for page in report.candidates]),
        overlaid=False,
    )


PANEL = Panel(analysis="candidates", order=0, chapter="overview", across=across)
