"""What layers lose with each other's selections, and over the number of indexers that are kept."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.style import GRID, colours, legend_above, look, new_figure, styled

_METHODS = (("exact", "exact (band: CI)"), ("greedy", "greedy"), ("even", "evenly spaced"))


@styled
def sharing_maps(similarity: pl.DataFrame) -> Figure:
    """Overlap of selections and loss of recall for every layer and earlier source.

    Args:
        similarity: The ``similarity`` frame of the sharing analysis, with rows.
    """
    layers = sorted({*similarity["layer"], *similarity["source"]})
    figure = new_figure(3.9)
    grid = figure.subplots(1, 2)
    for axes, column, label, map_name in (
        (grid[0], "overlap", "selected keys in common (share)", "cividis"),
        (grid[1], "loss", "attention mass lost by reuse (share)", "magma_r"),
    ):
        cells = np.full((len(layers), len(layers)), np.nan)
        for layer, source, value in similarity.select("layer", "source", column).iter_rows():
            cells[layers.index(layer), layers.index(source)] = np.nan if value is None else value
        low, high = (0.0, 1.0) if column == "overlap" else _span(cells)
        picture = axes.imshow(cells, cmap=colours(map_name), vmin=low, vmax=high, interpolation="none")
        own = similarity.filter(pl.col(column).is_not_null()).sort("layer", "source")
        across, down = ([layers.index(layer) for layer in own[name]] for name in ("source", "layer"))
        note(axes, own, across, down, ["layer", "source", column], panel=label)
        axes.set_facecolor(GRID)
        axes.grid(visible=False)
        axes.set_xlabel("source layer (whose selection is used)")
        _layer_ticks(axes, layers)
        bar_beside(axes, picture, label=label)
    grid[0].set_ylabel(f"layer that attends (n = {largest(similarity, 'n')} samples)")
    return figure


def _span(cells: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[float, float]:
    low, high = min(0.0, float(np.nanmin(cells))), float(np.nanmax(cells))
    return low, high if high > low else low + 1e-6


def _layer_ticks(axes: Axes, layers: list[int]) -> None:
    name = FuncFormatter(lambda place, _: str(layers[int(place)]) if 0 <= place < len(layers) else "")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axis.set_major_formatter(name)


@styled
def loss_by_indexers(schedules: pl.DataFrame) -> Figure:
    """Loss of recall over the number of indexers that are kept, for each way of choosing them.

    Args:
        schedules: The ``schedules`` frame of the sharing analysis, with rows.
    """
    figure = new_figure(3.3)
    axes = figure.subplots()
    for place, (method, label) in enumerate(_METHODS):
        rows = schedules.filter(pl.col("method") == method).sort("indexers")
        x, style = values(rows, "indexers"), look(place)
        marker = style.marker if rows.height <= 24 else ""
        axes.plot(x, values(rows, "loss"), color=style.colour, marker=marker, linestyle=style.line, label=label)
        note(axes, rows, "indexers", "loss", ["layers"] if method == "exact" else [], series=method)
        if method == "exact":
            held_out = rows.select("indexers", "loss_held_out", ci_low="held_out_ci_low", ci_high="held_out_ci_high")
            note(axes, held_out, "indexers", "loss_held_out", series="exact, held out")
            low, high = values(rows, "ci_low"), values(rows, "ci_high")
            axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
            held = look(len(_METHODS))
            axes.plot(
                x,
                values(rows, "loss_held_out"),
                color=held.colour,
                marker=held.marker if marker else "",
                linestyle=held.line,
                label="exact, held out",
            )
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.set_xlabel("indexers kept")
    axes.set_ylabel(f"attention mass lost (share)\nmean of layers, n = {largest(schedules, 'n')} samples")
    legend_above(figure, [axes])
    return figure
