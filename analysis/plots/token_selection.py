"""One query's selection over the text that it reads."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from indexscope.analysis.plots.drawing import Array, note
from indexscope.analysis.plots.style import BLUE, INK, MUTED, VERMILLION, new_figure, styled
from indexscope.errors import one_line

#: Characters a line, and their size in inches: DejaVu Sans Mono is 0.602 em wide.
LINE, SIZE = 92, 8.5
WIDE, HIGH = 0.602 * SIZE / 72, 0.27
LONGEST = 40
GAP = " … "


@styled
def token_selection(
    tokens: Sequence[str],
    position: NDArray[np.int64],
    attention: Array,
    selected: NDArray[np.bool_] | None,
    query: int,
    title: str,
) -> Figure:
    """Tokens in reading order on a ground of the attention that each gets; selected ones are framed.

    Args:
        tokens: Text of each token that is shown, with the space that leads it.
        position: Their positions, ascending; a gap between two is marked.
        attention: The query's attention on each.
        selected: Whether each is selected; None where nothing was selected.
        query: The query's position.
        title: Of the figure.
    """
    shown = [_visible(token) for token in tokens]
    line, column = _flow(shown, position)
    lines = int(line.max()) + 1
    figure = new_figure(HIGH * lines + 1.3, WIDE * LINE + 0.5)
    figure.suptitle(title, fontsize=10.5, fontweight="bold")
    grid = figure.add_gridspec(2, 2, height_ratios=[HIGH * lines, 0.12])
    axes = figure.add_subplot(grid[0, :])
    norm = PowerNorm(0.5, 0, float(np.nanmax(attention)) or 1.0)
    blue, red = (LinearSegmentedColormap.from_list(one, ["white", one]) for one in (BLUE, VERMILLION))
    for place, text in enumerate(shown):
        kept = selected is None or bool(selected[place])
        ground = (blue if kept else red)(norm(attention[place]))
        x, y, width = column[place], line[place], _cells(text)
        edge = INK if selected is not None and kept else "none"
        axes.add_patch(Rectangle((x + 0.06, y - 0.42), width - 0.12, 0.84, facecolor=ground, edgecolor=edge, lw=0.8))
        dark = 0.3 * ground[0] + 0.59 * ground[1] + 0.11 * ground[2] < 0.5
        own = position[place] == query
        axes.text(
            x,
            y,
            text,
            va="center_baseline",
            fontsize=SIZE,
            family="DejaVu Sans Mono",
            color="white" if dark else INK,
            fontweight="bold" if own else "normal",
        )
        if own:
            axes.plot([x, x + width], [y + 0.47, y + 0.47], color=INK, linewidth=2, solid_capstyle="butt")
        if place and position[place] > position[place - 1] + 1:
            axes.text(x - len(GAP) + 1, y, "…", va="center", fontsize=SIZE, color=MUTED)
    rows = pl.DataFrame(
        {"position": position, "token": list(tokens), "attention": attention}
        | ({} if selected is None else {"selected": selected})
    )
    note(axes, rows, column, line, rows.columns)
    axes.set_xlim(0, LINE)
    axes.set_ylim(lines - 0.4, -0.6)
    axes.set_axis_off()
    words = {"attention": blue} if selected is None else {"attention on selected keys": blue, "attention left out": red}
    for place, (label, colour) in enumerate(words.items()):
        own_axes = figure.add_subplot(grid[1, place])
        bar = figure.colorbar(
            ScalarMappable(norm, colour), cax=own_axes, orientation="horizontal", ticks=MaxNLocator(4)
        )
        bar.set_label(f"{label} (share)", fontsize=8.5)
        bar.outline.set_visible(False)
    frames = [Patch(facecolor="none", edgecolor=INK, label="selected")] if selected is not None else []
    figure.legend(
        handles=[*frames, Line2D([], [], color=INK, linewidth=2, label=f"the query, token {query}")],
        loc="outside lower right",
        ncols=2,
    )
    return figure


def _flow(shown: Sequence[str], position: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Line and first cell of each token, broken where the next one does not fit."""
    line, column, at, row = [], [], 0, 0
    for place, text in enumerate(shown):
        gap = len(GAP) if place and position[place] > position[place - 1] + 1 else 0
        if at + gap + _cells(text) > LINE:
            at, row = 0, row + 1
        at += gap
        line.append(row)
        column.append(at)
        at += _cells(text)
        if text.endswith("↵"):
            at, row = 0, row + 1
    return np.array(line), np.array(column)


def _visible(token: str) -> str:
    """What is drawn of a token: line breaks and tabs as marks, nothing that moves the text, not too long."""
    text = token.replace("\n", "↵").replace("\t", "→")
    lead = " " if text[:1] == " " else ""
    text = lead + (one_line(text) or ("" if lead else "∅"))
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _cells(text: str) -> int:
    """Cells of a fixed-width line that a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    marks = sum(unicodedata.combining(character) > 0 for character in text)
    return max(1, len(text) + wide - marks)
