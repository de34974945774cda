"""The report: frames in; a verdict, HTML, JSON and Markdown out."""

from __future__ import annotations

from analysis.report.html_report import build_html
from analysis.report.inputs import ModelPage, ReportInput
from analysis.report.json_report import build_json, dump
from analysis.report.markdown_report import build_markdown
from analysis.report.over_time import with_history
from analysis.report.verdict import Verdict, verdict

__all__ = [
    "ModelPage",
    "ReportInput",
    "Verdict",
    "build_html",
    "build_json",
    "build_markdown",
    "render",
    "verdict",
    "with_history",
]


def render(report: ReportInput) -> dict[str, str]:
    """All files of a report by name; the same input gives the same bytes.

    They hold places for what is added when they are published: see `with_history`.

    Returns:
        Text of ``report.html``, ``report.json`` and ``report.md``.
    """
    return {
        "report.html": build_html(report),
        "report.json": dump(build_json(report)),
        "report.md": build_markdown(report),
    }
