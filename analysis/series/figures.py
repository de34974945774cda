"""A series by step: its numbers with the changes that were found, by layer, and what its maps and heads do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.clustering.figures import stack_types
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.beside import bar_beside, legend_below
from indexscope.analysis.plots.drawing import INTERVAL, note
from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.lines import banded
from indexscope.analysis.plots.style import GREEN, MUTED, VERMILLION, colours, legend_above, look, new_figure, styled
from indexscope.analysis.plots.trends import numbers_of
from indexscope.analysis.report.numbers import number
from indexscope.analysis.series.followed import FIRST

_PANELS, _COLUMNS = 9, 3
_MAPS = 4
#: Changes of a metric that are marked: a steady drift is cut into more, which would hide it.
_MARKED = 6
_TICKS = 6
_FOCUSES = 5
#: What a change is called in the legend, by whether it is for the better.
_KINDS = {True: (GREEN, ", for the better"), False: (VERMILLION, ", for the worse"), None: (MUTED, "")}


def step_text(step: float) -> str:
    """A step in words.

    >>> step_text(2000.0), step_text(0.5)
    ('2,000', '0.5')
    """
    return f"{step:,.0f}" if step == round(step) else number(step)


def shown_metrics(held: Sequence[str], most: int) -> list[str]:
    """The metrics that are drawn of those that a series has."""
    first = [metric for metric in FIRST if metric in held]
    others = [metric for metric in held if metric not in FIRST and REGISTRY[metric].kind == "sample"]
    return (first + others)[:most]


@styled
def series_metrics(points: pl.DataFrame, changes: pl.DataFrame, axis: str) -> Figure | None:
    """A small panel a metric: its value over all layers with its interval, and where its level changes.

    Args:
        points: The table series_points of one series.
        changes: Its table series_changes.
        axis: What the steps count.

    Returns:
        The figure, or None where no metric has two members.
    """
    overall = points.filter(pl.col("layer").is_null())
    counted = overall.group_by("metric", maintain_order=True).len().filter(pl.col("len") > 1)
    metrics = shown_metrics(counted["metric"].to_list(), _PANELS)
    if not metrics:
        return None
    steps = sorted(points["step"].unique().to_list())
    across = min(_COLUMNS, len(metrics))
    down = -(-len(metrics) // across)
    figure = new_figure(1.95 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False)
    for place, (axes, metric) in enumerate(zip(grid.flat, metrics, strict=False)):
        own = overall.filter(pl.col("metric") == metric).sort("step")
        x = np.array([steps.index(step) for step in own["step"]], np.float64)
        found = changes.filter((pl.col("metric") == metric) & pl.col("layer").is_null())
        size = (pl.col("level") - pl.col("level_before")).abs()
        for row in found.sort(size, descending=True).head(_MARKED).sort("step").iter_rows(named=True):
            _mark(axes, row, steps)
        low, high = (values(own, end) for end in INTERVAL)
        banded(axes, x, values(own, "value"), low, high, look(0), "")
        note(axes, own, x, "value", ["step", "value", "unit"], panel=metric)
        axes.set_title(label(metric), fontsize=8.5)
        axes.set_ylabel(str(own["unit"][0]), fontsize=8)
        axes.yaxis.set_major_formatter(numbers_of(str(own["unit"][0])))
        axes.set_xlim(-0.5, len(steps) - 0.5)
        _steps_across(axes, steps, axis if place >= len(metrics) - across else "")
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    legend_above(figure, grid.flat[: len(metrics)])
    return figure


def _mark(axes: Axes, row: Mapping[str, Any], steps: Sequence[float]) -> None:
    """A change: a line before the first member of the new level, and a band for where it may have been."""
    colour, words = _KINDS[row["better"]]
    low, high, at = (steps.index(row[name]) for name in ("ci_low", "ci_high", "step"))
    axes.axvspan(low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axvline(at - 0.5, color=colour, linestyle=(0, (5, 1.6)), linewidth=1.2, label=f"the level changes{words}")


def _steps_across(axes: Axes, steps: Sequence[float], words: str) -> None:
    ticks = spread(list(range(len(steps))), _TICKS)
    axes.set_xticks(ticks, [step_text(steps[tick]) for tick in ticks])
    if words:
        axes.set_xlabel(words)


@styled
def series_layers(points: pl.DataFrame, axis: str) -> Figure | None:
    """A map a metric: its value by layer (up) and step (across).

    Args:
        points: The table series_layers of one series.
        axis: What the steps count.

    Returns:
        The figure, or None where nothing is known by layer.
    """
    layered = points.filter(pl.col("layer").is_not_null())
    metrics = shown_metrics(layered["metric"].unique(maintain_order=True).to_list(), _MAPS)
    steps = sorted(points["step"].unique().to_list())
    if not metrics or len(steps) < 2:
        return None
    layers = sorted(layered["layer"].unique().to_list())
    across = min(2, len(metrics))
    down = -(-len(metrics) // across)
    figure = new_figure(down * (1.3 + min(2.6, 0.14 * len(layers))) + 0.3)
    grid = figure.subplots(down, across, squeeze=False)
    for axes, metric in zip(grid.flat, metrics, strict=False):
        own = layered.filter(pl.col("metric") == metric)
        cells = np.full((len(layers), len(steps)), np.nan)
        at = [layers.index(layer) for layer in own["layer"]], [steps.index(step) for step in own["step"]]
        cells[at] = values(own, "value")
        drawn = axes.imshow(cells, cmap=colours("viridis"), aspect="auto", interpolation="none", origin="lower")
        note(axes, own, at[1], at[0], ["step", "layer", "value", "unit"], panel=metric)
        bar_beside(axes, drawn, label=str(own["unit"][0]))
        axes.set_title(label(metric), fontsize=8.5)
        ticks = spread(list(range(len(layers))), 8)
        axes.set_yticks(ticks, [str(layers[tick]) for tick in ticks])
        axes.set_ylabel("layer")
        _steps_across(axes, steps, axis)
        axes.grid(visible=False)
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    return figure


@styled
def series_patterns(patterns: pl.DataFrame, roles: pl.DataFrame, axis: str) -> Figure | None:
    """What attention maps are (left) and what indexer heads focus on (right), in shares by step.

    Args:
        patterns: The table series_patterns of one series.
        roles: Its table series_roles.
        axis: What the steps count.

    Returns:
        The figure, or None where there is neither, or but one member.
    """
    words = pl.col("words").str.replace(r" \(either sign\)$", "")
    first = roles.select(words.value_counts(sort=True).struct.field("words"))["words"].head(_FOCUSES)
    counted = (
        roles.group_by("step", pattern_type=pl.when(words.is_in(first)).then(words).otherwise(pl.lit("others")))
        .len("heads")
        .with_columns(share=pl.col("heads") / pl.col("heads").sum().over("step"))
    )
    named = {
        "attention maps by pattern type": patterns.filter(pl.col("layer").is_null()),
        "indexer heads by what they focus on": counted,
    }
    found = {title: rows for title, rows in named.items() if rows["step"].n_unique() > 1}
    if not found:
        return None
    figure = new_figure(3.6)
    for axes, (title, rows) in zip(figure.subplots(1, len(found), squeeze=False).flat, found.items(), strict=True):
        stack_types(axes, rows, "step", panel=title)
        steps = sorted(rows["step"].unique().to_list())
        _steps_across(axes, steps, axis)
        axes.set_title(title, fontsize=8.5)
        axes.set_ylabel("%")
        legend_below(axes, 2, middle=True, fontsize=7.5)
    return figure
