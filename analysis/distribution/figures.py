"""Recall by layer between its bounds, and metrics of every attention head at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import by_layer, largest
from indexscope.analysis.plots.lines import banded_rows, ring
from indexscope.analysis.plots.style import (
    GRID,
    MUTED,
    colours,
    legend_above,
    look,
    new_figure,
    short_labels,
    styled,
)

BY_HEAD = ("normalized_entropy", "head_recall")


@styled
def recall_by_layer(metrics: pl.DataFrame, models: Sequence[str]) -> Figure | None:
    """Selection recall of all models by layer, with the bounds of the first: a random choice and the best one.

    The layer of each model that keeps least is ringed.

    Args:
        metrics: Metrics of all models (columns model, metric, layer, value, ci_low, ci_high, n).
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where no model has an indexer.
    """
    found = {name: by_layer(metrics.filter(pl.col("model") == name), "selection_recall") for name in models}
    shown = {name: series for name, series in found.items() if series is not None}
    if not shown:
        return None
    figure = new_figure(3.7)
    axes = figure.subplots()
    labels = short_labels(list(models))
    first = next(iter(shown))
    _bounds(axes, metrics.filter(pl.col("model") == first), labels[first])
    for name, series in shown.items():
        style = look(list(models).index(name))
        banded_rows(axes, series.rows, "layer", "value", style, labels[name])
        note(axes, series.rows, "layer", "value", series=name, unit="share")
        worst = int(np.argmin(series.value))
        ring(axes, series.layer[worst], series.value[worst], style)
    axes.set_title(f"n = {max(series.n for series in shown.values())} samples")
    axes.set_xlabel("layer")
    axes.set_ylabel("attention kept (share)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.set_ylim(0, 1.02)
    legend_above(figure, [axes])
    return figure


def _bounds(axes: Axes, metrics: pl.DataFrame, label: str) -> None:
    """Shade what lies between the best and a random choice of as many keys."""
    best, chance = by_layer(metrics, "oracle_recall"), by_layer(metrics, "random_recall")
    if best is not None and chance is not None and np.array_equal(best.layer, chance.layer):
        axes.fill_between(best.layer, chance.value, best.value, color=GRID, alpha=0.55, linewidth=0)
    for words, series, line in (
        (f"best choice ({label})", best, (0, (5, 2))),
        (f"random choice ({label})", chance, (0, (1, 1.5))),
    ):
        if series is not None:
            axes.plot(series.layer, series.value, color=MUTED, linestyle=line, linewidth=1.2, label=words)
            note(axes, series.rows, "layer", "value", series=words, unit="share")


@styled
def head_maps(by_head: pl.DataFrame) -> Figure | None:
    """Maps of per-head metrics, layers across and heads down.

    Args:
        by_head: Columns metric, layer, head, value.

    Returns:
        The figure, or None where nothing can be drawn.
    """
    rows = by_head.filter(pl.col("value").is_finite() & pl.col("layer").is_not_null())
    present = [metric for metric in BY_HEAD if rows.filter(pl.col("metric") == metric).height]
    if not present:
        return None
    heads, layers = largest(rows, "head") + 1, largest(rows, "layer") + 1
    figure = new_figure(float(np.clip(0.9 + 0.16 * heads, 2.1, 4.2)))
    grid = figure.subplots(1, len(present), squeeze=False, sharey=True)
    for axes, metric in zip(grid.flat, present, strict=True):
        cells = np.full((heads, layers), np.nan)
        for layer, head, value in rows.filter(pl.col("metric") == metric).select("layer", "head", "value").iter_rows():
            cells[head, layer] = value
        top = 1.0 if REGISTRY[metric].unit == "share" or metric.startswith("normalized") else None
        picture = axes.imshow(
            cells, cmap=colours("cividis"), aspect="auto", interpolation="none", vmin=0 if top else None, vmax=top
        )
        own = rows.filter(pl.col("metric") == metric).sort("layer", "head")
        note(axes, own, "layer", "head", ["value"], panel=metric, unit=REGISTRY[metric].unit)
        axes.set_facecolor(MUTED)
        axes.grid(visible=False)
        axes.set_title(f"{metric} ({REGISTRY[metric].unit})")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        bar_beside(axes, picture)
    grid[0, 0].set_ylabel("attention head")
    return figure
