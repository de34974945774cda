"""What ties and less precise scores change of each layer's selection."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.style import legend_above, look, new_figure, styled


@styled
def changed_by_layer(variants: pl.DataFrame, rerun: pl.DataFrame, labels: Mapping[str, str]) -> Figure | None:
    """Changed share of the selection by layer and variant: from the same scores, and when the model runs again.

    Args:
        variants: The frame ``variants`` of the stability analysis.
        rerun: The frame ``rerun``; without rows the second panel is left out.
        labels: Variants in the order of their looks, with their names in the legend.

    Returns:
        The figure, or None where no layer has scores.
    """
    titles = ("in each layer alone", "in a run with the variant in all layers")
    shown = [
        (title, own)
        for title, frame in zip(titles, (variants, rerun), strict=True)
        if not (own := frame.filter(pl.col("layer").is_not_null() & pl.col("changed").is_not_null())).is_empty()
    ]
    if not shown:
        return None
    figure = new_figure(3.3)
    grid = figure.subplots(1, len(shown), squeeze=False)
    for axes, (title, rows) in zip(grid.flat, shown, strict=True):
        for index, (variant, label) in enumerate(labels.items()):
            _variant(axes, rows.filter(pl.col("variant") == variant).sort("layer"), index, label, title)
        axes.set_title(f"{title} (n = {largest(rows, 'n')})")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0, top=max(0.01, axes.get_ylim()[1]))
    grid[0, 0].set_ylabel("selection that changes")
    legend_above(figure, grid.flat)
    return figure


def _variant(axes: Axes, rows: pl.DataFrame, index: int, label: str, panel: str) -> None:
    if rows.is_empty():
        return
    style = look(index)
    note(axes, rows, "layer", "changed", panel=panel, series=label)
    x = values(rows, "layer")
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, alpha=0.12, linewidth=0)
    marker = style.marker if len(x) <= 24 else ""
    axes.plot(x, values(rows, "changed"), color=style.colour, marker=marker, linestyle=style.line, label=label)
