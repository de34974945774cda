"""What the panels say of a study, asked and drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from indexscope.analysis import questions
from indexscope.analysis.names import visible
from indexscope.analysis.report.chapters import CHAPTERS, ChapterKey
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.overlaid import left_out
from indexscope.analysis.report.panel import Answer, Frames, Panel, Passage, TextTable
from indexscope.analysis.report.pictures import Picture, picture

#: That a page has at most; `indexscope figure` draws all of them.
FIGURES = 16
_LEVELS = 4
_SENTENCES = 3
"""That a chapter opens with."""


@dataclass(frozen=True)
class Marked:
    """A token of a passage as harmless text, with its classes in the page; "" where it is not marked."""

    text: str
    kind: str
    follows_gap: bool


@dataclass(frozen=True)
class Shown:
    """What a page shows of one analysis of a model, in one of its chapters."""

    chapter: ChapterKey
    title: str
    about: str
    words: tuple[str, ...]
    tables: tuple[TextTable, ...]
    passages: tuple[tuple[str, tuple[Marked, ...]], ...]


@cache
def panels() -> tuple[Panel, ...]:
    """The panels of all questions, in the order of the page."""
    places = {chapter.key: place for place, chapter in enumerate(CHAPTERS)}
    return tuple(sorted(questions.declared("panel", Panel), key=lambda panel: (places[panel.chapter], panel.order)))


@cache
def declared_answers() -> tuple[Answer, ...]:
    """The answers of all questions, in the order of a chapter."""
    return tuple(sorted(questions.declared("answer", Answer), key=lambda answer: answer.order))


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


def shown_panels(page: ModelPage) -> tuple[Shown, ...]:
    """Every panel that has something to say of a model."""
    each = (
        Shown(
            panel.chapter,
            panel.title,
            panel.about,
            tuple(panel.words(frames)),
            tuple(panel.tables(frames)),
            tuple((passage.caption, _marked(passage)) for passage in panel.passages(frames)),
        )
        for panel, frames in asked(page)
    )
    return tuple(shown for shown in each if shown.words or shown.tables or shown.passages)


def answers(report: ReportInput) -> dict[ChapterKey, tuple[str, ...]]:
    """What each chapter opens with."""
    found: dict[ChapterKey, list[str]] = {chapter.key: [] for chapter in CHAPTERS}
    for answer in declared_answers():
        found[answer.chapter] += answer.say(report)
    return {key: tuple(sentences[:_SENTENCES]) for key, sentences in found.items()}


def study_pictures(report: ReportInput) -> tuple[Picture, ...]:
    """The figures over all models, sixteen at most: of more, the last of the longest chapters are left out."""
    shown, more = report.for_readers(), left_out(report)
    told = f" Of the candidates, {more} that rank below those shown are left out." if more else ""
    drawn = [(panel.chapter, one) for panel in panels() for one in panel.across(shown) if one.figure is not None]
    while len(drawn) > FIGURES:
        counts = Counter(chapter for chapter, _ in drawn)
        longest = max(counts, key=lambda chapter: counts[chapter])
        drawn.pop(max(place for place, (chapter, _) in enumerate(drawn) if chapter == longest))
    return tuple(
        picture(f"study-{one.name}", one.title, one.caption + told * one.overlaid, one.figure, chapter)
        for chapter, one in drawn
        if one.figure is not None
    )


def _marked(passage: Passage) -> tuple[Marked, ...]:
    found = []
    for token in passage.tokens:
        level = math.ceil(_LEVELS * min(max(token.weight, 0.0), 1.0)) if math.isfinite(token.weight) else 0
        kinds = [f"level-{level}"] if token.selected else []
        found.append(Marked(visible(token.text), " ".join(kinds + ["query"] * token.is_query), token.follows_gap))
    return tuple(found)
