"""Metrics by layer between their bounds, by the query's position, and of every attention head at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.plots.beside import bar_beside, legend_below
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import Series, by_layer, largest, values
from indexscope.analysis.plots.style import (
    GRID,
    MUTED,
    Look,
    colours,
    legend_above,
    look,
    new_figure,
    short_labels,
    styled,
)

BY_HEAD = ("normalized_entropy", "head_recall")
BY_POSITION = ("selection_recall", "normalized_entropy", "sparsity_ratio", "nll")


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
        legend_below(axes, 2)
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


@styled
def metrics_by_position(frames: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """One panel per preferred metric over the power-of-two buckets of the query's position, one line per model.

    Args:
        frames: Model name to its ``by_bucket`` frame (metric, layer, bucket, value, n).
        models: Names in report order.

    Returns:
        The figure, or None where nothing can be drawn.
    """
    present = [metric for metric in BY_POSITION if any(_rows(frame, metric).height for frame in frames.values())]
    if not present:
        return None
    columns = min(2, len(present))
    height = -(-len(present) // columns)
    figure = new_figure(2.15 * height + 0.55)
    grid = figure.subplots(height, columns, squeeze=False)
    labels = short_labels(list(models))
    for axes, metric in zip(grid.flat, present, strict=False):
        ticks: set[int] = set()
        for index, name in enumerate(models):
            rows = _rows(frames[name], metric) if name in frames else pl.DataFrame()
            if rows.is_empty():
                continue
            style = look(index)
            axes.plot(
                values(rows, "bucket"),
                values(rows, "value"),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=labels[name],
            )
            note(axes, rows, "bucket", "value", panel=metric, series=name, unit=REGISTRY[metric].unit)
            ticks |= set(rows["bucket"].to_list())
        axes.set_title(f"{metric} ({REGISTRY[metric].unit})")
        ordered = sorted(ticks)
        axes.set_xticks(ordered, [f"{2**bucket:,}" for bucket in ordered])
    for axes in grid.flat[len(present) :]:
        axes.remove()
    samples = max((largest(frame, "n") for frame in frames.values()), default=0)
    below = f"query position in tokens, first of its power-of-two bucket (n = {samples} samples)"
    figure.supxlabel(below, fontsize=9)
    legend_above(figure, grid.flat)
    return figure


def _rows(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    return frame.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite()).sort(
        "bucket"
    )


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
