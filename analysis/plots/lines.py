"""A line with its interval, the same in every figure that overlays models."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from indexscope.analysis.plots.drawing import INTERVAL, Array
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.lifts import positive
from indexscope.analysis.plots.style import Look

FEW = 24
"""Markers are drawn on lines of at most so many points."""


def banded(axes: Axes, x: Array, value: Array, low: Array, high: Array, style: Look, label: str) -> None:
    """A line, its markers where they are few, and a band from low to high where both are known."""
    axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    marker = style.marker if len(x) <= FEW else ""
    axes.plot(x, value, color=style.colour, marker=marker, linestyle=style.line, label=label)


def banded_rows(
    axes: Axes,
    rows: pl.DataFrame,
    x: str,
    y: str,
    style: Look,
    words: str,
    interval: tuple[str, str] = INTERVAL,
    log: bool = False,
) -> None:
    """The same of the columns of a frame.

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
    value, low, high = (positive(found) if log else found for found in (values(rows, name) for name in (y, *interval)))
    banded(axes, values(rows, x), value, low, high, style, words)


def ring(axes: Axes, x: float, y: float, style: Look) -> None:
    """Point at one value of a line."""
    axes.plot(
        *([x], [y]), color=style.colour, marker="o", markersize=11, markeredgewidth=1.4, fillstyle="none", linestyle=""
    )


def percents(axis: Axis) -> None:
    """Shares as per cent, with as many decimals as a tick needs."""
    axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}\u202f%".replace("-", "−")))


def powers(axes: Axes) -> None:
    """A logarithmic axis upwards: powers of ten, and what lies between where there are few."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 1e3 else (1.0,), numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    # Plain text: mathematical text is off, since names come from foreign files.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _amount(value)))


def _amount(value: float) -> str:
    power = int(np.floor(np.log10(value) + 1e-9)) if value > 0 else 0
    if -4 < power < 4:
        return f"{value:g}"
    first = f"{value / 10.0**power:.0f}"
    raised = "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return raised if first == "1" else f"{first}·{raised}"


def layers_across(axes: Axes) -> None:
    """Whole layers as ticks."""
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
