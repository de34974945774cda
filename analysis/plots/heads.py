"""A metric of every attention head at once: heads down, layers across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest
from indexscope.analysis.plots.style import MUTED, colours, new_figure, styled

PREFERRED = ("normalized_entropy", "head_recall")


@styled
def head_maps(by_head: pl.DataFrame, units: Mapping[str, str], metrics: Sequence[str] = PREFERRED) -> Figure | None:
    """Maps of per-head metrics, layers across and heads down.

    Args:
        by_head: Columns metric, layer, head, value.
        units: Unit of each metric.
        metrics: What to draw, in order; those that are absent are left out.

    Returns:
        The figure, or None where nothing can be drawn.
    """
    rows = by_head.filter(pl.col("value").is_finite() & pl.col("layer").is_not_null())
    present = [metric for metric in metrics if rows.filter(pl.col("metric") == metric).height]
    if not present:
        return None
    heads, layers = largest(rows, "head") + 1, largest(rows, "layer") + 1
    figure = new_figure(float(np.clip(0.9 + 0.16 * heads, 2.1, 4.2)))
    grid = figure.subplots(1, len(present), squeeze=False, sharey=True)
    for axes, metric in zip(grid.flat, present, strict=True):
        cells = np.full((heads, layers), np.nan)
        for layer, head, value in rows.filter(pl.col("metric") == metric).select("layer", "head", "value").iter_rows():
            cells[head, layer] = value
        top = 1.0 if units.get(metric) == "share" or metric.startswith("normalized") else None
        picture = axes.imshow(
            cells, cmap=colours("cividis"), aspect="auto", interpolation="none", vmin=0 if top else None, vmax=top
        )
        own = rows.filter(pl.col("metric") == metric).sort("layer", "head")
        note(axes, own, "layer", "head", ["value"], panel=metric, unit=units.get(metric))
        axes.set_facecolor(MUTED)
        axes.grid(visible=False)
        axes.set_title(f"{metric} ({units.get(metric, 'unit not stated')})")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        figure.colorbar(picture, ax=axes, pad=0.02)
    grid[0, 0].set_ylabel("attention head")
    return figure
