"""A drawn figure as a page holds it: the picture and the rows behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.packed import packed
from indexscope.analysis.plots.svg import to_svg


@dataclass(frozen=True)
class Picture:
    """A drawn figure: its id in the page, title, caption, SVG, and the rows behind its marks as `packed` gives them."""

    identifier: str
    title: str
    caption: str
    svg: str
    data: dict[str, Any] | None = None


def picture(identifier: str, title: str, caption: str, figure: Figure, of: str = "") -> Picture:
    """Draw a figure.

    Args:
        identifier: Unique in the page; letters, digits and dashes. Saved files are named by it.
        title: What it is called in the page.
        caption: How to read it.
        figure: The figure; a `Drawing` brings its rows along.
        of: Whose figure it is, for readers who hear the title alone.
    """
    svg = to_svg(figure, identifier, f"{title}, {of}" if of else title, caption)
    data = packed(figure) if isinstance(figure, Drawing) and figure.marks else None
    return Picture(identifier, title, caption, svg, data)
