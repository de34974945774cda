"""A drawn figure as a page holds it: the picture and the rows behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from matplotlib.figure import Figure

from analysis import plots
from analysis.plots.drawing import Drawing
from analysis.plots.packed import packed

_IN_A_PAGE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Picture:
    """A drawn figure: its id in the page, title, caption, SVG, and the rows behind its marks as JSON ("" for none)."""

    identifier: str
    title: str
    caption: str
    svg: str
    data: str = ""


def picture(identifier: str, title: str, caption: str, figure: Figure, of: str = "") -> Picture:
    """Draw a figure.

    Args:
        identifier: Unique in the page; letters, digits and dashes. Saved files are named by it.
        title: What it is called in the page.
        caption: How to read it.
        figure: The figure; a `Drawing` brings its rows along.
        of: Whose figure it is, for readers who hear the title alone.
    """
    svg = plots.to_svg(figure, identifier, f"{title}, {of}" if of else title, caption)
    data = script_json(packed(figure)) if isinstance(figure, Drawing) and figure.marks else ""
    return Picture(identifier, title, caption, svg, data)


def script_json(value: object) -> str:
    """JSON that may stand inside a script element: no text in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(_IN_A_PAGE)
