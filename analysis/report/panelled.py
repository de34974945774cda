"""What the panels say of a study, asked and drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from indexscope.analysis import questions
from indexscope.analysis.names import plain, visible
from indexscope.analysis.report.chapters import CHAPTERS
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.panel import Drawn, Frames, Panel, Passage, TextTable
from indexscope.analysis.report.pictures import Picture, picture

_LEVELS = 4


@dataclass(frozen=True)
class Marked:
    """A token of a passage as harmless text, with its classes in the page; "" where it is not marked."""

    text: str
    kind: str
    follows_gap: bool


@dataclass(frozen=True)
class Shown:
    """What a page shows of one analysis."""

    title: str
    about: str
    words: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[TextTable, ...]
    passages: tuple[tuple[str, tuple[Marked, ...]], ...]


@cache
def panels() -> tuple[Panel, ...]:
    """The panels of all questions, in the order of the page."""
    places = {chapter.key: place for place, chapter in enumerate(CHAPTERS)}
    return tuple(sorted(questions.declared("panel", Panel), key=lambda panel: (places[panel.chapter], panel.order)))


def asked(page: ModelPage) -> Iterator[tuple[Panel, Frames]]:
    """Every panel that a model has frames for, and those of them that have rows."""
    for panel in panels():
        found = {name: frame for name, frame in page.analyses.get(panel.analysis, {}).items() if not frame.is_empty()}
        if found:
            yield panel, found


def first_advice(report: ReportInput, models: Iterable[str]) -> tuple[str, str] | None:
    """The first of these models of which something is advised, and what; None if there is none."""
    pages = {page.name: page for page in report.models}
    for name in models:
        for panel, frames in asked(pages[name]):
            if advice := panel.advice(frames):
                return name, advice
    return None


def shown_panels(page: ModelPage, prefix: str) -> tuple[Shown, ...]:
    """Every panel that has something to say of a model."""
    each = (
        Shown(
            panel.title,
            panel.about,
            tuple(panel.words(frames)),
            _pictures(panel.draw(frames), prefix, plain(page.name)),
            tuple(panel.tables(frames)),
            tuple((passage.caption, _marked(passage)) for passage in panel.passages(frames)),
        )
        for panel, frames in asked(page)
    )
    return tuple(shown for shown in each if shown.words or shown.pictures or shown.tables or shown.passages)


def study_pictures(report: ReportInput) -> tuple[Picture, ...]:
    """The figures over all models."""
    shown = report.for_readers()
    return tuple(drawn for panel in panels() for drawn in _pictures(panel.across(shown), "study"))


def _pictures(drawn: Iterable[Drawn], prefix: str, of: str = "") -> tuple[Picture, ...]:
    return tuple(
        picture(f"{prefix}-{one.name}", one.title, one.caption, one.figure, of)
        for one in drawn
        if one.figure is not None
    )


def _marked(passage: Passage) -> tuple[Marked, ...]:
    found = []
    for token in passage.tokens:
        level = math.ceil(_LEVELS * min(max(token.weight, 0.0), 1.0)) if math.isfinite(token.weight) else 0
        kinds = [f"level-{level}"] if token.selected else []
        found.append(Marked(visible(token.text), " ".join(kinds + ["query"] * token.is_query), token.follows_gap))
    return tuple(found)
