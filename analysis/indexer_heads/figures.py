"""Indexer heads: how alike their scores are, and what the selection loses as they go."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, spread, values
from indexscope.analysis.plots.style import INK, MUTED, colours, legend_above, look, new_figure, styled

_COLUMNS = 6
_MOST_MAPS = 12
_MANY_HEADS = 32
"""From here on half as many layers are shown: a map holds the square of it."""
_MOST_CURVES = 6


@styled
def head_similarity(pairs: pl.DataFrame) -> Figure | None:
    """One square a layer: the correlation of every two indexer heads, blue where they score alike.

    Args:
        pairs: Columns layer, head_a, head_b, correlation.

    Returns:
        The figure, of at most twelve layers spread over the model, six where they have 32 heads or more; None where
        nothing is known.
    """
    rows = pairs.filter(pl.col("correlation").is_finite())
    many = largest(rows, "head_b") >= _MANY_HEADS
    layers = spread(rows["layer"].to_list(), _MOST_MAPS // 2 if many else _MOST_MAPS)
    if not layers:
        return None
    columns = min(_COLUMNS, len(layers))
    lines = -(-len(layers) // columns)
    figure = new_figure(0.55 + 1.75 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    picture = None
    for axes, layer in zip(grid.flat, layers, strict=False):
        # Heads that are constant correlate with nothing, but they are there.
        every = pairs.filter(pl.col("layer") == layer)
        heads = largest(every, "head_b") + 1
        cells = np.full((heads, heads), np.nan)
        for a, b, value in every.select("head_a", "head_b", "correlation").iter_rows():
            cells[a, b] = cells[b, a] = np.nan if value is None else value
        picture = axes.imshow(cells, cmap=colours("RdBu"), vmin=-1, vmax=1, interpolation="none")
        pair = every.filter(pl.col("correlation").is_not_null()).sort("head_a", "head_b")
        note(axes, pair, "head_b", "head_a", ["correlation"], panel=f"layer {layer}")
        axes.set_facecolor(MUTED)
        axes.grid(visible=False)
        axes.set_title(f"layer {layer}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    for axes in grid.flat[len(layers) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("indexer head")
    if picture is not None:
        bar_beside(grid[0, -1], picture, label="correlation")
    return figure


@styled
def pruning_curves(pruning: pl.DataFrame) -> Figure | None:
    """Recall lost as heads are removed: left by layer, right in all layers together with its interval.

    Args:
        pruning: Columns layer (null for all), removed, recall_loss, ci_low, ci_high, flops_share, n.

    Returns:
        The figure, or None where nothing was removed.
    """
    rows = pruning.filter(pl.col("recall_loss").is_finite()).sort("layer", "removed")
    if not largest(rows, "removed"):
        return None
    figure = new_figure(3.3)
    left, right = figure.subplots(1, 2, sharey=True)
    layers = spread(rows["layer"].drop_nulls().to_list(), _MOST_CURVES)
    for place, layer in enumerate(layers):
        own, style = rows.filter(pl.col("layer") == layer), look(place)
        left.plot(
            100 * (1 - values(own, "flops_share")),
            values(own, "recall_loss"),
            color=style.colour,
            marker=style.marker if own.height <= 16 else "",
            linestyle=style.line,
            label=f"layer {layer}",
        )
        x = 100 * (1 - values(own, "flops_share"))
        note(left, own, x, "recall_loss", ["removed", "flops_share"], panel="one layer", series=f"layer {layer}")
    _together(right, rows.filter(pl.col("layer").is_null()))
    for axes in (left, right):
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.set_xlabel("indexer heads removed (%)")
    left.set_ylabel(f"recall lost (share, n = {largest(rows, 'n')} samples)")
    legend_above(figure, [left], columns=6)
    return figure


def _together(axes: Axes, rows: pl.DataFrame) -> None:
    x = 100 * (1 - values(rows, "flops_share"))
    axes.set_title("the same number in every layer (band: CI)")
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=INK, alpha=0.18, linewidth=0)
    axes.plot(x, values(rows, "recall_loss"), color=INK, marker="o" if rows.height <= 16 else "")
    note(axes, rows, x, "recall_loss", ["removed", "flops_share"], panel="the same number in every layer")
