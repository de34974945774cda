"""A model's line in a figure over all models: its values, their intervals, and the one that is pointed at."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes

from indexscope.analysis.plots.frames import Array, values
from indexscope.analysis.plots.lifts import positive
from indexscope.analysis.plots.style import Look

_MARKED = 24
"""Longer lines have no markers."""


def banded(
    axes: Axes,
    rows: pl.DataFrame,
    x: str,
    y: str,
    style: Look,
    words: str,
    interval: tuple[str, str] = ("ci_low", "ci_high"),
    log: bool = False,
) -> None:
    """Draw values as a line with their intervals as a band.

    Args:
        axes: The panel.
        rows: In the order of ``x``.
        x: Column across.
        y: Column upwards.
        style: Of the model.
        words: What the legend calls it.
        interval: Columns of the band.
        log: Leave gaps at what is not above 0.
    """

    def column(name: str) -> Array:
        found = values(rows, name)
        return positive(found) if log else found

    across = values(rows, x)
    low, high = map(column, interval)
    axes.fill_between(across, low, high, color=style.colour, alpha=0.2, linewidth=0)
    marker = style.marker if rows.height <= _MARKED else ""
    axes.plot(across, column(y), color=style.colour, marker=marker, linestyle=style.line, label=words)


def ring(axes: Axes, x: float, y: float, style: Look) -> None:
    """Point at one value of a line."""
    axes.plot(
        *([x], [y]), color=style.colour, marker="o", markersize=11, markeredgewidth=1.4, fillstyle="none", linestyle=""
    )
