"""The report: frames in; a verdict, HTML, JSON, Markdown and JUnit XML out.

What draws and lays out pages is imported where it is used: a difference of two reports needs none of it.
"""

from __future__ import annotations

from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.json_report import build_json, dump
from indexscope.analysis.report.junit import build_junit
from indexscope.analysis.report.verdict import Verdict, verdict

__all__ = [
    "ModelPage",
    "ReportInput",
    "Verdict",
    "build_json",
    "build_junit",
    "dump",
    "render",
    "verdict",
]


def render(report: ReportInput) -> dict[str, str]:
    """All files of a report by name; the same input gives the same bytes.

    They hold places for what is added when they are published: see `indexscope.analysis.report.over_time`.

    Returns:
        Text of ``report.html``, ``report.json``, ``report.md`` and ``report.junit.xml``.
    """
    from indexscope.analysis.report.html_report import build_html
    from indexscope.analysis.report.markdown_report import build_markdown

    return {
        "report.html": build_html(report),
        "report.json": dump(build_json(report)),
        "report.md": build_markdown(report),
        "report.junit.xml": build_junit(report),
    }
