"""What each candidate changes, and what it pays for it."""

from __future__ import annotations

from indexscope.analysis.candidates.forest_figures import forest
from indexscope.analysis.candidates.tradeoff_figures import quality_against_cost
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import percent
from indexscope.analysis.report.panel import Drawn, Panel


def across(report: ReportInput) -> list[Drawn]:
    """Differences from the baseline, and quality against cost."""
    return [
        Drawn(
            "differences",
            "Differences from the baseline",
            f"Paired by sample; bars are the {report.interval}. A bar that touches zero means that no difference was "
            "detected, not that there is none. The axis is linear within ±1 % and logarithmic outside. Where nothing "
            f"differs, about {percent(1 - report.confidence)} of the bars leave out zero by chance alone.",
            forest(report.comparisons, [page.name for page in report.candidates]),
        ),
        Drawn(
            "tradeoff",
            "Quality against cost",
            f"Indexer FLOPs by formula against quality; bars are the {report.interval} of each model on its own. The "
            "dotted line joins the Pareto front by the estimates; models off it, which another beats in both, are "
            "hollow, as are those that leak. Models are paired, so differences are known better than overlapping bars "
            "suggest: see the comparison.",
            quality_against_cost(report.metrics, report.names, report.leaking),
        ),
    ]


PANEL = Panel(analysis="candidates", order=0, chapter="overview", across=across)
