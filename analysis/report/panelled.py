"""The panels of a model's page, drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass

from indexscope.analysis.names import plain, visible
from indexscope.analysis.report.inputs import ModelPage
from indexscope.analysis.report.panels import PANELS, Passage, TextTable
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


def shown_panels(page: ModelPage, prefix: str) -> tuple[Shown, ...]:
    """Every panel that has something to say of a model."""
    found = []
    for panel in PANELS:
        frames = {name: frame for name, frame in page.analyses.get(panel.analysis, {}).items() if not frame.is_empty()}
        if not frames:
            continue
        pictures = [
            picture(f"{prefix}-{panel.name or panel.analysis}-{place}", title, caption, figure, plain(page.name))
            for place, (figure, title, caption) in enumerate(panel.draw(frames), 1)
        ]
        shown = Shown(
            panel.title,
            panel.about,
            tuple(panel.words(frames)),
            tuple(pictures),
            tuple(panel.tables(frames)),
            tuple((passage.caption, _marked(passage)) for passage in panel.passages(frames)),
        )
        if shown.words or shown.pictures or shown.tables or shown.passages:
            found.append(shown)
    return tuple(found)


def _marked(passage: Passage) -> tuple[Marked, ...]:
    found = []
    for token in passage.tokens:
        level = math.ceil(_LEVELS * min(max(token.weight, 0.0), 1.0)) if math.isfinite(token.weight) else 0
        kinds = [f"level-{level}"] if token.selected else []
        found.append(Marked(visible(token.text), " ".join(kinds + ["query"] * token.is_query), token.follows_gap))
    return tuple(found)
