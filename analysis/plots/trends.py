"""Metrics of a study over its runs, with the runs at which a gate broke and was mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, ScalarFormatter

from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.style import (
    GREEN,
    MUTED,
    VERMILLION,
    legend_above,
    look,
    new_figure,
    short_labels,
    styled,
)

_TICKS = 5
_LARGE = ("FLOPs/token", "FLOPs", "parameters", "bytes", "tokens")
_MARKED = 40
"""Longer series have no markers."""


@dataclass(frozen=True)
class Marks:
    """What the gates say in one panel: bounds of rules, and the places at which a gate broke or was mended."""

    bounds: tuple[float, ...] = ()
    broke: tuple[int, ...] = ()
    mended: tuple[int, ...] = ()


@styled
def metric_trends(
    trends: pl.DataFrame, labels: Mapping[int, str], models: Sequence[str], marks: Mapping[str, Marks]
) -> Figure | None:
    """One small panel a metric: value by run with its interval, a line a model.

    Args:
        trends: metric, unit, model, place (of the run, whole numbers), value, ci_low, ci_high.
        labels: What the axis calls a place.
        models: Names in report order; a model keeps its look.
        marks: The gates about a metric, by metric.

    Returns:
        The figure, or None where no metric has two runs.
    """
    metrics = [
        metric
        for metric in trends["metric"].unique(maintain_order=True)
        if trends.filter(pl.col("metric") == metric)["place"].n_unique() > 1
    ]
    if not metrics:
        return None
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = new_figure(2.2 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    short = short_labels(list(models))
    first, last = int(trends["place"].min()), int(trends["place"].max())  # type: ignore[arg-type]
    for axes, metric in zip(grid.flat, metrics, strict=False):
        own = trends.filter(pl.col("metric") == metric)
        for model in models:
            _line(axes, own.filter(pl.col("model") == model).sort("place"), short[model], list(models).index(model))
        _gates(axes, marks.get(metric, Marks()), own)
        axes.set_title(metric)
        axes.set_ylabel(str(own["unit"][0]))
        axes.yaxis.set_major_formatter(numbers_of(str(own["unit"][0])))
        axes.set_xlim(first - 0.3, last + 0.3)
        ticks = spread(own["place"].to_list(), _TICKS if columns > 1 else 2 * _TICKS)
        axes.set_xticks(ticks, [labels[tick] for tick in ticks])
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    legend_above(figure, grid.flat[: len(metrics)])
    return figure


def numbers_of(unit: str) -> Formatter:
    """How an axis writes numbers of a unit: large ones with a prefix, none with an offset."""
    if unit in _LARGE:
        return EngFormatter(sep="\u202f")
    plain = ScalarFormatter(useOffset=False)
    plain.set_powerlimits((-4, 6))
    return plain


def _line(axes: Axes, rows: pl.DataFrame, label: str, index: int) -> None:
    if rows.is_empty():
        return
    style, x = look(index), values(rows, "place")
    marker = style.marker if rows.height <= _MARKED else ""
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, alpha=0.2, linewidth=0)
    axes.plot(x, values(rows, "value"), color=style.colour, marker=marker, linestyle=style.line, label=label)


def _gates(axes: Axes, marks: Marks, rows: pl.DataFrame) -> None:
    low, high = axes.get_ylim()
    for bound in marks.bounds:
        # A bound far from the values would flatten them; the report's table names it in any case.
        if low - (high - low) <= bound <= high + (high - low):
            axes.axhline(bound, color=MUTED, linestyle=(0, (1.3, 1.3)), linewidth=1.1, label="bound of a gate")
    shown = set(rows["place"])
    for places, colour, label in ((marks.broke, VERMILLION, "a gate broke"), (marks.mended, GREEN, "mended")):
        for place in places:
            if place in shown:
                axes.axvline(place, color=colour, linestyle=(0, (5, 1.6)), linewidth=1.2, label=label)
