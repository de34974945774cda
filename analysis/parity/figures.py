"""Where two programs select the same, by layer and position."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import by_layer, largest, values
from indexscope.analysis.plots.lines import banded, layers_across, percents
from indexscope.analysis.plots.style import Look, legend_above, look, new_figure, short_labels, styled
from indexscope.analysis.plots.where import Shade, maps

_LINES = ("rows_identical", "rows_identical_up_to_ties", "selection_overlap")
_FEW = 24
"""Markers are drawn on lines of at most so many points."""


@styled
def agreement(dumps: Mapping[str, pl.DataFrame], looks: Mapping[str, Look]) -> Figure | None:
    """Agreement of dumps with the baseline by layer: identical rows, those up to ties, and keys in common.

    Args:
        dumps: The frame ``metrics`` of the dumps by name.
        looks: The dumps to draw, in order, with their looks.

    Returns:
        The figure, or None where no layer was compared. What no dump has is left out.
    """
    found = {
        metric: {name: own for name in looks if name in dumps and (own := by_layer(dumps[name], metric))}
        for metric in _LINES
    }
    panels = [metric for metric in _LINES if found[metric]]
    if not panels:
        return None
    figure, short = new_figure(3.0), short_labels(list(looks))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for axes, metric in zip(grid, panels, strict=True):
        for name, own in found[metric].items():
            banded(axes, own.layer, own.value, own.low, own.high, looks[name], short[name])
            note(axes, own.rows, "layer", "value", panel=label(metric), series=name, unit="share")
        axes.set_title(label(metric))
        layers_across(axes)
        percents(axes.yaxis)
    figure.axes[0].set_ylim(top=1.01)
    if len(looks) > 1:
        legend_above(figure, figure.axes)
    return figure


@styled
def agreement_by_layer(metrics: pl.DataFrame) -> Figure | None:
    """Rows that are identical, identical up to ties, and the overlap, by layer.

    Args:
        metrics: One candidate's frame ``metrics``.

    Returns:
        The figure, or None where no layer was compared.
    """
    found = {name: series for name in _LINES if (series := by_layer(metrics, name)) is not None}
    if not found:
        return None
    figure = new_figure(3.2)
    axes = figure.subplots()
    for place, (name, series) in enumerate(found.items()):
        style = look(place)
        axes.fill_between(series.layer, series.low, series.high, color=style.colour, alpha=0.18, linewidth=0)
        note(axes, series.rows, "layer", "value", panel="agreement", series=label(name), unit="share")
        marker = style.marker if len(series.layer) <= _FEW else ""
        axes.plot(
            series.layer, series.value, color=style.colour, marker=marker, linestyle=style.line, label=label(name)
        )
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(f"layer (n = {max(series.n for series in found.values())} samples)")
    axes.set_ylabel("share")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    legend_above(figure, [axes])
    return figure


@styled
def agreement_map(where: pl.DataFrame) -> Figure | None:
    """Rows that are identical, and overlap, by layer and query position.

    Args:
        where: One candidate's frame ``parity_where``.

    Returns:
        The figure, or None where no layer was compared.
    """
    rows = where.filter(pl.col("layer").is_not_null() & pl.col("rows_identical").is_not_null())
    if rows.is_empty():
        return None
    lowest = [min(float(np.nanmin(values(rows, column))), 0.99) for column in ("rows_identical", "overlap")]
    return maps(
        rows,
        [
            Shade("rows_identical", label("rows_identical"), "viridis", lowest[0], 1.0),
            Shade("overlap", label("selection_overlap"), "viridis", lowest[1], 1.0),
        ],
    )


@styled
def differences_by_distance(distances: pl.DataFrame) -> Figure | None:
    """Keys that one of the two alone selects, by distance.

    Args:
        distances: One candidate's frame ``parity_distances``.

    Returns:
        The figure, or None where nothing differs.
    """
    rows = distances.filter(pl.col("layer").is_null()).sort("bin")
    if not largest(rows.select(most=pl.col("missing") + pl.col("extra")), "most"):
        return None
    figure = new_figure(2.8)
    axes = figure.subplots()
    place = np.arange(rows.height, dtype=np.float64)
    for index, name in enumerate(("missing", "extra")):
        spots = place + (index - 0.5) * 0.36
        hatch = "////" if index else ""
        axes.bar(
            spots,
            values(rows, name),
            width=0.36,
            color=look(index).colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            label=name,
        )
        note(axes, rows, spots, values(rows, name), ["label", name], panel="differences", series=name)
    axes.set_xticks(place, rows["label"].to_list(), rotation=38, ha="right", rotation_mode="anchor")
    axes.set_xlabel("distance (tokens)")
    axes.set_ylabel("keys")
    legend_above(figure, [axes])
    return figure
