"""What a panel is made of: a heading, words, a figure, tables of finished text and passages of foreign text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.figure import Figure

_WORD = re.compile(r"[^\W\d_]{4}")
"""Four letters: numbers carry shorter units and "to" alone."""

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

    @property
    def wordy(self) -> tuple[bool, ...]:
        """Which columns hold words: they run from the left and wrap."""
        return tuple(any(_WORD.search(row[place]) for row in self.rows) for place in range(len(self.columns)))


@dataclass(frozen=True)
class Token:
    """A token of a passage.

    Attributes:
        text: Its text as the dataset has it; the report makes it harmless.
        weight: How strongly it is marked if it is selected, 0 to 1.
        selected: Whether it is selected.
        is_query: Whether it is the query itself.
        follows_gap: Whether tokens before it are left out.
    """

    text: str
    weight: float = 0.0
    selected: bool = False
    is_query: bool = False
    follows_gap: bool = False


@dataclass(frozen=True)
class Passage:
    """A stretch of text with its selected tokens marked.

    Attributes:
        caption: What it shows.
        tokens: Its tokens in order.
    """

    caption: str
    tokens: tuple[Token, ...]


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
        passages: Texts with marked tokens.
        name: What its pictures are named by; the analysis' name, unless another panel shows that too.
    """

    analysis: str
    order: int
    title: str
    about: str
    words: Callable[[Frames], Sequence[str]] = lambda frames: ()
    draw: Callable[[Frames], Sequence[tuple[Figure, str, str]]] = lambda frames: ()
    tables: Callable[[Frames], Sequence[TextTable]] = lambda frames: ()
    passages: Callable[[Frames], Sequence[Passage]] = lambda frames: ()
    name: str = ""
