"""Several figures as one, one below the other, each with a heading: for readers who look at one picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import Drawing
from indexscope.analysis.plots.style import WIDTH, drawn_into, house_style

HEADING = 0.34
"""Inches that a heading takes."""

Part = tuple[str, Callable[[], Figure | None]]


def stacked(parts: Sequence[Part]) -> Drawing | None:
    """Draw figures one below the other.

    Each is drawn twice: once by itself, which tells its height, and then into its place.

    Args:
        parts: Heading and drawing function of each; one that draws nothing is left out.

    Returns:
        One figure whose ``data`` is that of all parts, or None where no part draws anything.
    """
    with house_style():
        alone = [(heading, draw, figure) for heading, draw in parts if (figure := draw()) is not None]
        if not alone:
            return None
        heights = [height for _, _, figure in alone for height in (HEADING, figure.get_figheight())]
        whole = Drawing(figsize=(WIDTH, sum(heights)), layout="constrained")
        # A heading has a place of its own: a figure's title and a legend above its panels would lie on each other.
        places = whole.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for above, place, (heading, draw, _) in zip(places[::2], places[1::2], alone, strict=True):
            above.text(0.008, 0.35, heading, fontsize=11, fontweight="bold", va="center")
            with drawn_into(place):
                draw()
        return whole
