"""The report: frames in; a verdict, HTML, JSON, Markdown and JUnit XML out.

What draws and lays out pages is imported where it is used: a difference of two reports needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from indexscope.analysis.report.comment import OPENED
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.json_report import build_json, dump
from indexscope.analysis.report.junit import build_junit
from indexscope.analysis.report.verdict import Verdict, verdict

if TYPE_CHECKING:
    from indexscope.analysis.report.pictures import Picture

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


def render(report: ReportInput, pictures: Sequence[Picture] | None = None) -> dict[str, str]:
    """All files of a report by name; the same input gives the same bytes.

    They hold places for what is added when they are published: see `indexscope.analysis.report.over_time`.

    Args:
        report: The report.
        pictures: Its figures over all models, where they are drawn already.

    Returns:
        Text of ``report.html``, ``report.json``, ``report.md`` and ``report.junit.xml``, and of OPENED and TOLD.
    """
    from indexscope.analysis.report.html_report import build_html
    from indexscope.analysis.report.markdown_report import build_markdown
    from indexscope.analysis.report.panelled import study_pictures
    from indexscope.analysis.report.told import TOLD, build_told

    return {
        "report.html": build_html(report, study_pictures(report) if pictures is None else pictures),
        "report.json": dump(build_json(report)),
        "report.md": build_markdown(report),
        OPENED: build_markdown(report, opened=True),
        TOLD: build_told(report),
        "report.junit.xml": build_junit(report),
    }
