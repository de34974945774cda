"""Axes for ratios to what chance would give: logarithmic, with 1 marked."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from indexscope.analysis.plots.frames import Array


def positive(array: Array) -> Array:
    """A lift of zero cannot stand on a logarithmic axis: leave a gap."""
    return np.where(array > 0, array, np.nan)


def log_two(axes: Axes, which: str = "y") -> None:
    """Powers of two as ticks, from at most 1/2 to at least 2, so that small lifts look small."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    scale, limits = (axes.set_yscale, axes.set_ylim) if which == "y" else (axes.set_xscale, axes.set_xlim)
    scale("log", base=2)
    low, high = axis.get_view_interval()
    low, high = max(min(low, 0.5), 2.0**-12), min(max(high, 2.0), 2.0**12)
    limits(low, high)
    powers = np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    axis.set_major_locator(FixedLocator([float(2.0**power) for power in powers]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
