"""What to change first."""

from __future__ import annotations

from indexscope.analysis.names import plain
from indexscope.analysis.recommendations.words import line
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import leading


def say(report: ReportInput) -> list[str]:
    """The first advice for the candidates that are named and the baseline, or that nothing can be taken away."""
    pages = [*leading(report), *([report.baseline] if report.baseline is not None else [])] or report.measured[:1]
    found, nothing = [], []
    for page in pages:
        first = _first(page)
        if first:
            found.append(f"For {plain(page.name)} first: {first}")
        elif page.frame("recommendations", "recommendation_options") is not None:
            nothing.append(plain(page.name))
    if nothing:
        found.append(
            f"As far as measured, nothing can be taken away from {join(nothing)} within the limit of lost recall."
        )
    return found[:2]


def _first(page: ModelPage) -> str:
    frame = page.frame("recommendations", "recommendations")
    if frame is None:
        return ""
    text = line(frame.sort("rank").row(0, named=True))
    return text if text.startswith("k ") else f"{text[:1].lower()}{text[1:]}"


ANSWER = Answer("change", 10, say)
