"""The key numbers of many candidates, a sweep or the checkpoints of a training, in the order of the study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.candidates.key_figures import HALF, key_rows
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.style import BLUE, GRID, INK, new_figure, styled
from indexscope.analysis.plots.trends import numbers_of
from indexscope.analysis.report.judgement import judge
from indexscope.analysis.report.numbers import known

_PANELS = 6
_COLUMNS = 2


@styled
def key_trends(comparisons: pl.DataFrame, candidates: Sequence[str]) -> Figure | None:
    """A small panel a key metric: the difference from the baseline with its interval, by candidate.

    Args:
        comparisons: Rows of the comparison.
        candidates: Names in the order of the study.

    Returns:
        The figure, or None where nothing was compared.
    """
    rows, found = key_rows(comparisons, candidates)
    metrics = found[:_PANELS]
    if not metrics:
        return None
    down = -(-len(metrics) // _COLUMNS)
    figure = new_figure(1.12 * down + 0.45, HALF)
    grid = figure.subplots(down, _COLUMNS, squeeze=False, sharex=True)
    places = {name: place for place, name in enumerate(candidates, 1)}
    order = pl.col("candidate").replace_strict(places, return_dtype=pl.Int64).alias("place")
    for axes, metric in zip(grid.flat, metrics, strict=False):
        _panel(axes, rows.filter(pl.col("metric") == metric).with_columns(order).sort("place"))
        axes.set_title(label(metric), fontsize=8.5)
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    for axes in grid[-1]:
        axes.set_xlabel("candidate")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    return figure


def _panel(axes: Axes, rows: pl.DataFrame) -> None:
    x, middle = values(rows, "place"), values(rows, "difference")
    margin = next((found for row in rows.iter_rows(named=True) if (found := known(row["margin"]))), None)
    if margin is not None:
        axes.axhspan(-margin, margin, color=GRID, linewidth=0)
    axes.axhline(0, color=INK, linewidth=0.9)
    low, high = (np.where(np.isfinite(end), end, middle) for end in (values(rows, "ci_low"), values(rows, "ci_high")))
    axes.vlines(x, low, high, color=BLUE, linewidth=1.2)
    axes.plot(x, middle, color=BLUE, linewidth=0.8)
    sure = np.array([judge(row).stands for row in rows.iter_rows(named=True)])
    for chosen, face in ((sure, BLUE), (~sure, "white")):
        axes.plot(x[chosen], middle[chosen], color=BLUE, marker="o", markersize=3.5, markerfacecolor=face, linestyle="")
    told = ["candidate", "difference", "ci_low", "ci_high", "unit", "n"]
    note(axes, rows, "place", "difference", told, panel=str(rows["metric"][0]))
    axes.set_ylabel(str(rows["unit"][0]), fontsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(numbers_of(str(rows["unit"][0])))
