"""What indexer and attention cost, measured in time and counted in operations, as the context grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.style import legend_above, look, new_figure, short_labels, styled


@styled
def cost_by_length(
    latency: Mapping[str, pl.DataFrame], projection: Mapping[str, pl.DataFrame], series: Sequence[str]
) -> Figure | None:
    """Measured latency and FLOPs by formula against context length, both on logarithmic axes.

    Args:
        latency: Series name to rows of length, ms, low, high (median and the 5th to 95th percentile).
        projection: Series name to rows of length, flops.
        series: Names in order, which fixes each one's colour and marker.

    Returns:
        The figure, or None where there is neither.
    """
    timed = {name: frame for name, frame in latency.items() if frame["ms"].count()}
    counted = {name: frame for name, frame in projection.items() if frame["flops"].count()}
    if not timed and not counted:
        return None
    labels = short_labels(list(series), 30)
    figure = new_figure(3.35)
    grid = figure.subplots(1, 2, squeeze=False)
    for index, name in enumerate(series):
        style = look(index)
        if name in timed:
            rows = timed[name].sort("length")
            middle = values(rows, "ms")
            reach = [np.clip(middle - values(rows, "low"), 0, None), np.clip(values(rows, "high") - middle, 0, None)]
            grid[0, 0].errorbar(
                values(rows, "length"),
                middle,
                yerr=np.nan_to_num(np.array(reach)),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                capsize=2.5,
                label=labels[name],
            )
            note(grid[0, 0], rows, "length", "ms", ["low", "high"], panel="measured latency", series=name)
        if name in counted:
            rows = counted[name].sort("length")
            grid[0, 1].plot(
                values(rows, "length"),
                values(rows, "flops"),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=labels[name],
            )
            note(grid[0, 1], rows, "length", "flops", panel="operations by formula", series=name)
    _finish(grid[0, 0], timed, "measured latency (ms; bars: 5th to 95th percentile)")
    _finish(grid[0, 1], counted, "operations by formula (FLOPs)")
    legend_above(figure, grid.flat)
    return figure


def _finish(axes: Axes, frames: Mapping[str, pl.DataFrame], label: str) -> None:
    axes.set_title(label, fontweight="normal")
    axes.set_xlabel("context length (tokens)")
    if not frames:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    lengths = spread([length for frame in frames.values() for length in frame["length"].to_list()], 8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([float(length) for length in lengths]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tokens(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _amount(value)))


def _tokens(value: float) -> str:
    for size, suffix in ((2**20, "M"), (2**10, "k")):
        if value >= size and value % size == 0:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _amount(value: float) -> str:
    power = int(np.floor(np.log10(value) + 1e-9)) if value > 0 else 0
    if -4 < power < 4:
        return f"{value:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
