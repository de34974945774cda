"""The panels of a model's page, drawn."""

from __future__ import annotations

from dataclasses import dataclass

from analysis import plots
from analysis.report.figures import Picture
from analysis.report.inputs import ModelPage
from analysis.report.names import plain
from analysis.report.panels import PANELS, TextTable


@dataclass(frozen=True)
class Shown:
    """What a page shows of one analysis."""

    title: str
    about: str
    words: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[TextTable, ...]


def shown_panels(page: ModelPage, prefix: str) -> tuple[Shown, ...]:
    """Every panel that has something to say of a model."""
    found = []
    for panel in PANELS:
        frames = {name: frame for name, frame in page.analyses.get(panel.analysis, {}).items() if not frame.is_empty()}
        if not frames:
            continue
        pictures = []
        for place, (figure, title, caption) in enumerate(panel.draw(frames), 1):
            identifier = f"{prefix}-{panel.analysis}-{place}"
            svg = plots.to_svg(figure, identifier, f"{title}, {plain(page.name)}", caption)
            pictures.append(Picture(identifier, title, caption, svg))
        shown = Shown(
            panel.title, panel.about, tuple(panel.words(frames)), tuple(pictures), tuple(panel.tables(frames))
        )
        if shown.words or shown.pictures or shown.tables:
            found.append(shown)
    return tuple(found)
