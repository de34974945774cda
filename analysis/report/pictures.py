"""A drawn figure as a page holds it: the picture and the rows behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.packed import packed
from indexscope.analysis.plots.svg import to_svg
from indexscope.analysis.report.chapters import ChapterKey


@dataclass(frozen=True)
class Picture:
    """A drawn figure.

    Attributes:
        identifier: Its id in the page.
        title: What it is called.
        caption: How to read it.
        svg: The picture.
        data: The rows behind its marks, as `packed` gives them.
        chapter: The chapter of the page that it stands in.
    """

    identifier: str
    title: str
    caption: str
    svg: str
    data: dict[str, Any] | None = None
    chapter: ChapterKey = "overview"


def picture(identifier: str, title: str, caption: str, figure: Figure, chapter: ChapterKey = "overview") -> Picture:
    """Draw a figure.

    Args:
        identifier: Unique in the page; letters, digits and dashes. Saved files are named by it.
        title: What it is called in the page.
        caption: How to read it.
        figure: The figure; a `Drawing` brings its rows along.
        chapter: The chapter of the page that it stands in.
    """
    data = packed(figure) if isinstance(figure, Drawing) and figure.marks else None
    return Picture(identifier, title, caption, to_svg(figure, identifier, title, caption, themed=True), data, chapter)
