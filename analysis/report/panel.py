"""All that the report knows of a question: its panel, and what panels are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.report.chapters import ChapterKey
from indexscope.analysis.report.inputs import ReportInput

_WORD = re.compile(r"[^\W\d_]{4}")
"""Four letters: numbers carry shorter units and "to" alone."""

Frames = Mapping[str, pl.DataFrame]
"""Result frames of one analysis by name; a panel is asked only where the analysis made a frame with rows."""


@dataclass(frozen=True)
class Answer:
    """What a question says first, over all models: a chapter of the page opens with its three first sentences.

    Attributes:
        chapter: The chapter.
        order: Place among the answers of the chapter.
        say: The sentences, one or two, with numbers and their intervals; none where the study cannot tell. The names
            in the report may say "leaks" after a model.
    """

    chapter: ChapterKey
    order: int
    say: Callable[[ReportInput], Sequence[str]]


class Drawn(NamedTuple):
    """A figure with what is said of it.

    Attributes:
        name: What its id in the page and the name of its saved files end in, its own among all panels: letters, digits
            and dashes.
        title: What it is called.
        caption: How to read it.
        figure: The figure; None where there is nothing to draw.
        overlaid: Whether it shows the models that `indexscope.analysis.report.overlaid` chooses, and no others.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    overlaid: bool = True


@dataclass(frozen=True)
class Chart:
    """Rows of a model that the page draws when a reader unfolds them, with the layer and head that are chosen there.

    Attributes:
        title: Heading.
        about: How to read it.
        kind: What is drawn of a row; of steps a row is a bin and ``x`` its left edge, of a map a
            cell at ``x`` and ``y``.
        frame: The rows in order. With a column ``layer`` that is not ``x`` or ``y``, those of the chosen layer are
            drawn; ci_low and ci_high make a band around a line.
        x: Column across.
        y: Column upwards.
        xlabel: What the column across is called.
        ylabel: What the column upwards is called.
        series: Column by which rows are told apart by colour.
        labels: Column with the words of the column across.
        log: Whether values are drawn as powers of two.
        choose: Whether the chosen head stands out; ``x`` is heads then.
        shade: Of a map, the column that colours its cells.
        middle: Of a map, the value between two colours where its scale has two sides; None for one side from 0.
        digits: Significant digits that the page keeps.
        note: What was left out.
    """

    title: str
    about: str
    kind: Literal["steps", "line", "dots", "bars", "map"]
    frame: pl.DataFrame
    x: str
    y: str
    xlabel: str = ""
    ylabel: str = ""
    series: str = ""
    labels: str = ""
    log: bool = False
    choose: bool = False
    shade: str = ""
    middle: float | None = None
    digits: int = 4
    note: str = ""

    @property
    def layered(self) -> bool:
        """Whether it is of one layer at a time."""
        return "layer" in self.frame.columns and "layer" not in (self.x, self.y)


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

    @cached_property
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
    """What the report shows of one analysis: of each model in its part of the page, and of all of them together.

    Attributes:
        analysis: Name of the analysis whose frames it is given.
        order: Place among the panels of its chapter.
        chapter: The chapter of the page that it belongs to.
        title: Heading.
        about: How to read it, a sentence or two.
        words: Sentences that say what the data at hand gives, made from the frames.
        draw: Figures of one model: for notebooks and ``indexscope figure``; the page has those of ``across``.
        tables: Tables.
        passages: Texts with marked tokens.
        charts: What a reader can look at layer by layer.
        excerpt: Tokens of a text for each layer: sample, layer, query, position, token, weight (0 to 1, -1 where it is
            not selected) and recall.
        brief: The table that the Markdown folds below the name of each candidate; its caption is its title.
        across: Figures over all models of the study. The first of a chapter is shown, others are folded.
        json: Columns of the result tables that report.json holds, for all models, under the table's name; rows that do
            not say whose they are (model, candidate) get a column model.
        headline: A clause for the headline of the report, after the name of the candidate, where the question is what a
            study of it is about.
        advice: What to do first, with its measured effect, in a sentence, where the question is what to change.
    """

    analysis: str
    order: int
    chapter: ChapterKey
    title: str = ""
    about: str = ""
    words: Callable[[Frames], Sequence[str]] = lambda frames: ()
    draw: Callable[[Frames], Sequence[Drawn]] = lambda frames: ()
    tables: Callable[[Frames], Sequence[TextTable]] = lambda frames: ()
    passages: Callable[[Frames], Sequence[Passage]] = lambda frames: ()
    charts: Callable[[Frames], Sequence[Chart]] = lambda frames: ()
    excerpt: Callable[[Frames], pl.DataFrame | None] = lambda frames: None
    brief: Callable[[Frames], TextTable | None] = lambda frames: None
    across: Callable[[ReportInput], Sequence[Drawn]] = lambda report: ()
    json: Mapping[str, Sequence[str]] = field(default_factory=dict)
    headline: Callable[[Frames], str] = lambda frames: ""
    advice: Callable[[Frames], str] = lambda frames: ""
