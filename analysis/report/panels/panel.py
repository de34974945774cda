"""What a panel is made of: a heading, words, a figure and tables of finished text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

Frames = Mapping[str, pl.DataFrame]
"""Result frames of one analysis by name; a panel is asked only where the analysis made a frame with rows."""


@dataclass(frozen=True)
class TextTable:
    """A table of finished text.

    Attributes:
        caption: What it shows, and of what n.
        columns: Headings.
        rows: Cells, the first of which heads the row.
        open: Whether it is shown unfolded.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    open: bool = True


@dataclass(frozen=True)
class Panel:
    """What a model's page shows of one analysis.

    Attributes:
        analysis: Name of the analysis whose frames it is given.
        order: Place in the page.
        title: Heading.
        about: How to read it, a sentence or two.
        words: Sentences that say what the data at hand gives, made from the frames.
        draw: Figures with their captions; none where there is nothing to draw.
        tables: Tables.
    """

    analysis: str
    order: int
    title: str
    about: str
    words: Callable[[Frames], Sequence[str]] = lambda frames: ()
    draw: Callable[[Frames], Sequence[tuple[Figure, str, str]]] = lambda frames: ()
    tables: Callable[[Frames], Sequence[TextTable]] = lambda frames: ()
