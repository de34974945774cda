"""Which models a figure over all of them shows: more than a few lines in one panel tell nothing."""

from __future__ import annotations

from indexscope.analysis.plots.style import Look, look
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.ranking import ranking

MOST = 6


def overlaid(report: ReportInput, most: int = MOST) -> list[str]:
    """The baseline and the candidates that were run, the best ranked ones where there are many; in report order."""
    if len(report.measured) <= most:
        return [page.name for page in report.measured]
    first = [] if report.baseline is None else [report.baseline.name]
    kept = {*first, *ranking(report)["candidate"].to_list()[: most - len(first)]}
    return [page.name for page in report.measured if page.name in kept]


def looks(report: ReportInput) -> dict[str, Look]:
    """Those models, each with the look that it has in all figures."""
    return {name: look(place) for place, name in enumerate(overlaid(report))}


def left_out(report: ReportInput) -> int:
    """How many models that were run are not among them."""
    return len(report.measured) - len(overlaid(report))
