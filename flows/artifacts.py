"""A study in Prefect's interface: the report's summary, its figures, its comparison, a link, and how far a run is.

Prefect shows Markdown, table cells and descriptions as formatted text, so names of studies and models are escaped.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from indexscope.analysis.names import markdown, plain
from indexscope.flows.config import Study

#: Columns of the comparison that a table of artifacts has room for.
SHOWN = ("candidate", "metric", "unit", "baseline", "value", "difference", "ci_low", "ci_high", "n", "better")
#: Figures of the report that are shown, by their ids; the rest is in the report.
FIGURES = ("study-over-time", "study-differences", "study-recall")
#: Bytes of an artifact. Prefect refuses an event above 1.5 MB, and an artifact travels in one.
LARGEST = 1_000_000
#: A step that is done sooner has no progress to show; and how often progress is told.
PATIENCE_SECONDS = 10.0
EVERY_SECONDS = 5.0
PICTURE = r'<svg [^>]*aria-labelledby="{id}-title".*?</svg>'
REFUSALS = (httpx.HTTPError, PrefectException)


def show_report(study: Study, files: Mapping[str, str], comparisons: pl.DataFrame, folder: str) -> None:
    """Make the artifacts of a published report; each run of a study adds a version of each.

    Args:
        study: The study.
        files: Text of the report's files.
        comparisons: The comparison.
        folder: Where the files are.

    The report is on disk: a server that is away makes no study fail.
    """
    title = markdown(plain(study.name))
    link = folder if "://" in folder else Path(folder).resolve().as_uri()
    try:
        create_markdown_artifact(
            trimmed(unfolded(files["report.md"]), LARGEST),
            key=f"{study.slug}-summary",
            description=f"{title}: verdict, gates and comparison (report.md)",
        )
        if figures := figures_of(files["report.html"], title):
            create_markdown_artifact(
                figures, key=f"{study.slug}-figures", description=f"{title}: figures of the report"
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


def unfolded(text: str) -> str:
    """The Markdown of a report for a page that shows no HTML: what is folded stands open below its title."""
    text = re.sub(r"</?ul>", "", text.replace("</details>\n", "").replace("</li>", ""))
    text = re.sub(r"<details>\n<summary>(.*?)</summary>", lambda found: f"## {markdown(unescape(found[1]))}", text)
    return re.sub(r"\n{3,}", "\n\n", text.replace("<li>", "\n- ")).rstrip() + "\n"


def figures_of(html: str, title: str) -> str:
    """The first figures of a report as Markdown with the pictures in it; empty if it has none.

    Args:
        html: Text of ``report.html``.
        title: The study's name, escaped.
    """
    from indexscope.analysis.plots import as_image

    found: list[str] = []
    for identifier in FIGURES:
        if match := re.search(PICTURE.replace("{id}", identifier), html, re.DOTALL):
            name = re.search(r"<title[^>]*>(.*?)</title>", match[0], re.DOTALL)
            said = re.search(r"<desc>(.*?)</desc>", match[0], re.DOTALL)
            heading = f"## {name[1] if name else identifier}"
            block = f"{heading}\n\n![{identifier}]({as_image(match[0])})\n\n{said[1] if said else ''}"
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


@contextmanager
def progress_artifact(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how far a step of several units is, once it has lasted a while; call what is yielded once a unit."""
    started = told = time.monotonic()
    done, artifact = 0, None

    def advance() -> None:
        nonlocal done, artifact, told
        done += 1
        now = time.monotonic()
        if (
            flow_run.id is None
            or total < 2
            or now - started < PATIENCE_SECONDS
            or (done < total and now - told < EVERY_SECONDS)
        ):
            return
        told = now
        share, words = 100 * done / total, f"{markdown(plain(title))}: {done} of {total}"
        try:
            if artifact is None:
                artifact = create_progress_artifact(share, description=words)
            else:
                update_progress_artifact(artifact, share, description=words)
        except REFUSALS as error:
            logging.getLogger(__name__).debug("Prefect took no progress: %s", error)

    yield advance
