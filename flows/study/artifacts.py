"""A study in Prefect's interface: the report's summary, its figures, its comparison and a link.

Prefect shows Markdown, table cells and descriptions as formatted text, so names of studies and models are escaped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from indexscope.analysis.names import markdown, plain
from indexscope.flows.engine.progress import REFUSALS
from indexscope.flows.study.config import Study

#: Columns of the comparison that a table of artifacts has room for.
SHOWN = (
    "candidate",
    "metric",
    "unit",
    "baseline",
    "value",
    "difference",
    "ci_low",
    "ci_high",
    "n",
    "better",
    "verdict",
)
#: Figures of the report that are shown, by their ids; the rest is in the report.
FIGURES = ("study-over-time", "study-key-numbers", "study-key-trends", "study-recall")
#: Bytes of an artifact. Prefect refuses an event above 1.5 MB, and an artifact travels in one.
LARGEST = 1_000_000


def show_report(
    study: Study, summary: str, figures: Sequence[Mapping[str, Any]], comparisons: pl.DataFrame, folder: str
) -> None:
    """Make the artifacts of a published report; each run of a study adds a version of each.

    Args:
        study: The study.
        summary: The report in Markdown without HTML.
        figures: Its figures over all models: identifier, title, caption and SVG.
        comparisons: The comparison.
        folder: Where the files are.

    The report is on disk: a server that is away makes no study fail.
    """
    title = markdown(plain(study.name))
    link = folder if "://" in folder else Path(folder).resolve().as_uri()
    try:
        create_markdown_artifact(
            trimmed(summary, LARGEST),
            key=f"{study.slug}-summary",
            description=f"{title}: verdict, gates and comparison (report.md)",
        )
        if pictures := figures_of(figures, title):
            create_markdown_artifact(
                pictures, key=f"{study.slug}-figures", description=f"{title}: figures of the report"
            )
        create_table_artifact(
            rows_of(comparisons),
            key=f"{study.slug}-comparison",
            description=f"{title}: candidates against the baseline, over all layers",
        )
        address = f"{link}/report.html".replace("(", "%28").replace(")", "%29")
        # Prefect shows a link's text unformatted, so the name stands in the description.
        create_link_artifact(
            address, link_text="report.html", key=f"{study.slug}-report", description=f"{title}: the report"
        )
    except REFUSALS as error:
        logging.getLogger(__name__).warning("Prefect took no artifacts: %s", error)


def trimmed(text: str, largest: int) -> str:
    """Markdown of at most so many bytes of UTF-8, cut after a whole line, with a word on what is missing.

    >>> trimmed("a" * 9, 9)
    'aaaaaaaaa'
    """
    if len(text.encode()) <= largest:
        return text
    note = "\n\n*Shortened: all of it is in report.md.*\n"
    head = text.encode()[: largest - len(note.encode())].decode(errors="ignore")
    return head[: head.rfind("\n") + 1].rstrip() + note


def figures_of(figures: Iterable[Mapping[str, Any]], title: str) -> str:
    """The figures of a report that are shown as Markdown with the pictures in it; empty if it has none.

    Args:
        figures: Identifier, title, caption and SVG of each.
        title: The study's name, escaped.
    """
    from indexscope.analysis.plots.address import as_image

    found: list[str] = []
    for one in figures:
        if one["identifier"] in FIGURES:
            block = f"## {one['title']}\n\n![{one['identifier']}]({as_image(one['svg'])})\n\n{markdown(one['caption'])}"
            if sum(map(len, found)) + len(block) <= LARGEST:
                found.append(block)
    return "\n\n".join([f"# {title}", *found]) + "\n" if found else ""


def rows_of(comparisons: pl.DataFrame) -> list[dict[str, Any]]:
    """The comparison over all layers as rows that JSON can hold: no NaN, no infinity, names as text."""
    overall = comparisons.filter(pl.col("layer").is_null()) if "layer" in comparisons.columns else comparisons
    columns = [column for column in SHOWN if column in overall.columns]
    return [{key: _clean(value) for key, value in row.items()} for row in overall.select(columns).iter_rows(named=True)]


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return markdown(plain(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value
