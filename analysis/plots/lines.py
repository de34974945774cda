"""A line with its interval, the same in every figure that overlays models."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.drawing import Array
from indexscope.analysis.plots.style import Look

FEW = 24
"""Markers are drawn on lines of at most so many points."""


def banded(axes: Axes, x: Array, value: Array, low: Array, high: Array, style: Look, label: str) -> None:
    """A line, its markers where they are few, and a band from low to high where both are known."""
    axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    marker = style.marker if len(x) <= FEW else ""
    axes.plot(x, value, color=style.colour, marker=marker, linestyle=style.line, label=label)


def percents(axis: Axis) -> None:
    """Shares as per cent, with as many decimals as a tick needs."""
    axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}\u202f%".replace("-", "−")))


def layers_across(axes: Axes) -> None:
    """Whole layers as ticks."""
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
