"""How low recall falls at single queries, by their position and by layer."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.style import BLUE, ORANGE, legend_above, new_figure, styled

_LEVELS = ((0.5, "median", BLUE, "-"), (0.1, "10 % of the queries below", BLUE, "--"), (0.01, "1 % below", ORANGE, "-"))


@styled
def recall_of_queries(quantiles: pl.DataFrame) -> Figure | None:
    """Quantiles and minimum of selection_recall over single queries, by position (left) and by layer (right).

    Args:
        quantiles: Columns layer, bucket, quantile, value, count; null layers and buckets are those of all together.

    Returns:
        The figure, or None where there is nothing to draw.
    """
    sides = {
        "bucket": quantiles.filter(pl.col("layer").is_null() & pl.col("bucket").is_not_null()).sort("bucket"),
        "layer": quantiles.filter(pl.col("bucket").is_null() & pl.col("layer").is_not_null()).sort("layer"),
    }
    shown = {along: rows for along, rows in sides.items() if rows[along].n_unique() > 1}
    if not shown:
        return None
    figure = new_figure(2.9)
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    for axes, (along, rows) in zip(grid.flat, shown.items(), strict=True):
        _panel(axes, along, rows)
        axes.set_xlabel("query position in tokens, first of its bucket" if along == "bucket" else "layer")
        if along == "bucket":
            ticks = sorted(set(rows[along].to_list()))
            axes.set_xticks(ticks, [f"{2**tick:,}" for tick in ticks])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    grid[0, 0].set_ylabel("selection recall of a query (share)")
    grid[0, 0].set_ylim(0, 1.02)
    queries = largest(quantiles.filter(pl.col("layer").is_null() & pl.col("bucket").is_null()), "count")
    grid[0, 0].set_title(f"{queries:,} queries in effect, all layers")
    legend_above(figure, grid.flat)
    return figure


def _panel(axes: Axes, along: str, rows: pl.DataFrame) -> None:
    for level, label, colour, line in _LEVELS:
        own = rows.filter(pl.col("quantile") == level)
        axes.plot(values(own, along), values(own, "value"), color=colour, linestyle=line, marker="", label=label)
        note(axes, own, along, "value", panel=f"by {along}", series=label, unit="share")
    own = rows.filter(pl.col("quantile") == 0)
    axes.plot(values(own, along), values(own, "value"), color=ORANGE, linestyle="", marker="v", label="lowest of all")
    note(axes, own, along, "value", panel=f"by {along}", series="lowest of all", unit="share")
