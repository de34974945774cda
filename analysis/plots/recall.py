"""How much of the dense attention the indexer's selection keeps, layer by layer, between ceiling and floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import Series, by_layer
from indexscope.analysis.plots.style import GRID, MUTED, Look, look, new_figure, short_labels, styled


@styled
def recall_by_layer(metrics: pl.DataFrame, models: Sequence[str]) -> Figure | None:
    """One panel per model with an indexer: selection recall between random and oracle recall.

    Args:
        metrics: Metrics of all models (columns model, metric, layer, value, ci_low, ci_high, n).
        models: Names in report order; the first is the baseline.

    Returns:
        The figure, or None where no model has an indexer.
    """
    found = {name: by_layer(metrics.filter(pl.col("model") == name), "selection_recall") for name in models}
    shown = [(name, series) for name, series in found.items() if series is not None]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(2.75 * rows + 0.35)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    labels = short_labels(list(models))
    first_name, first = shown[0]
    for place, (axes, (name, series)) in enumerate(zip(grid.flat, shown, strict=False)):
        _bounds(axes, metrics.filter(pl.col("model") == name), name)
        if place and first_name == models[0]:
            axes.plot(first.layer, first.value, color=MUTED, linewidth=1.0, label=f"selection of {labels[first_name]}")
        _selection(axes, series, look(list(models).index(name)))
        note(axes, series.rows, "layer", "value", panel=name, series="selection", unit="share")
        axes.set_title(f"{labels[name]} (n = {series.n} samples)")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_ylim(0, 1.02)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2)
    for axes in grid.flat[len(shown) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("dense attention mass kept (share)")
    return figure


def _bounds(axes: Axes, metrics: pl.DataFrame, panel: str) -> None:
    """Shade what lies between the best and a blind choice of as many keys."""
    oracle, blind = by_layer(metrics, "oracle_recall"), by_layer(metrics, "random_recall")
    if oracle is not None and blind is not None and np.array_equal(oracle.layer, blind.layer):
        axes.fill_between(oracle.layer, blind.value, oracle.value, color=GRID, alpha=0.55, linewidth=0)
    for name, series in (("oracle", oracle), ("random", blind)):
        if series is not None:
            note(axes, series.rows, "layer", "value", panel=panel, series=name, unit="share")
    if oracle is not None:
        axes.plot(oracle.layer, oracle.value, color=MUTED, linestyle=(0, (5, 2)), linewidth=1.1, label="oracle")
    if blind is not None:
        axes.plot(blind.layer, blind.value, color=MUTED, linestyle=(0, (1, 1.5)), linewidth=1.3, label="random")


def _selection(axes: Axes, series: Series, style: Look) -> None:
    marker = style.marker if series.layer.size <= 24 else ""
    axes.fill_between(series.layer, series.low, series.high, color=style.colour, alpha=0.22, linewidth=0)
    axes.plot(series.layer, series.value, color=style.colour, marker=marker, label="selection (band: CI)")
