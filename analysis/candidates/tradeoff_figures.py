"""What is paid and what is got: cost against next-token loss, or against selection recall."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.candidates.key_figures import HALF
from indexscope.analysis.comparison.fronts import COST, model_front
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.labels import label_points
from indexscope.analysis.plots.style import INK, MUTED, Look, new_figure, short_labels, styled

_QUALITY = ("nll", "selection_recall")


@styled
def quality_against_cost(
    comparisons: pl.DataFrame, metrics: pl.DataFrame, looks: Mapping[str, Look], void: Collection[str] = ()
) -> Figure | None:
    """Candidates as points: relative cost across, the difference of quality from the baseline up, the front joined.

    Quality is the next-token loss, or the selection recall where no candidate has that. The baseline is at 0.

    Args:
        comparisons: Rows of the comparison.
        metrics: Metrics of all models, of which the Pareto front is made.
        looks: The look of the models that are named; others are small and grey. A name that no row has is the baseline.
        void: Names of those that leak, which do not compete.

    Returns:
        The figure, or None where fewer than two models have both.
    """
    metric, found = paid_and_got(comparisons)
    points = _with_baseline(found, looks)
    if points.height < 2:
        return None
    top = float(points["cost"].max())  # type: ignore[arg-type]
    competing = [name for name in points["model"] if name not in void]
    front = {name for name, on in model_front(metrics, competing, metric).items() if on}
    figure = new_figure(2.9, HALF)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
    line = points.filter(pl.col("model").is_in(front)).sort("cost", "difference")
    axes.plot(line["cost"], line["difference"], color=MUTED, linewidth=1.1, linestyle=(0, (2, 2)), zorder=1)
    at = {str(row["model"]): _at(row) for row in points.iter_rows(named=True)}
    for name in sorted(at, key=lambda name: name in looks):
        _point(axes, at[name], looks.get(name), name in front, name in void)
    told = ["model", "cost", "difference", "ci_low", "ci_high"]
    note(axes, points, points["cost"].to_numpy(), "difference", told, unit=REGISTRY[metric].unit)
    axes.set_ylabel(f"Δ {label(metric)} ({REGISTRY[metric].unit}), better {'↓' if metric == 'nll' else '↑'}")
    axes.set_xlabel(f"{label(COST)} (dense attention = 1), cheaper ←")
    axes.set_xlim(0, top * 1.15)
    axes.margins(y=0.14)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    named = short_labels([name for name in at if name in looks], 22)
    labels = {name: (text, looks[name].colour) for name, text in named.items()}
    label_points(axes, at, labels, (HALF - 0.8, 2.9 - 0.6))
    return figure


def paid_and_got(comparisons: pl.DataFrame) -> tuple[str, pl.DataFrame]:
    """The quality that the candidates have, and their rows of it with `cost` and, of the baseline's, `base`."""
    rows = comparisons.filter(pl.col("layer").is_null())
    paid = rows.filter((pl.col("metric") == COST) & pl.col("value").is_finite())
    for metric in _QUALITY:
        found = rows.filter((pl.col("metric") == metric) & pl.col("difference").is_finite()).join(
            paid.select("candidate", cost="value", base="baseline"), on="candidate", maintain_order="left"
        )
        if found.height:
            break
    return metric, found


def _with_baseline(found: pl.DataFrame, looks: Mapping[str, Look]) -> pl.DataFrame:
    """Model, cost and difference with its interval; the baseline's from itself is 0, without an interval."""
    own = found.select("cost", "difference", "ci_low", "ci_high", "n", model="candidate")
    baseline = next((name for name in looks if name not in set(found["candidate"])), None)
    cost = found["base"].drop_nulls()
    if baseline is None or cost.is_empty():
        return own
    row = {"model": baseline, "cost": cost[0], "difference": 0.0}
    return pl.concat([pl.DataFrame([row]), own], how="diagonal_relaxed").select(own.columns)


def _at(row: Mapping[str, Any]) -> tuple[float, ...]:
    ends = (row["difference"] if row[name] is None else row[name] for name in ("ci_low", "ci_high"))
    return row["cost"], row["difference"], *ends


def _point(axes: Axes, point: tuple[float, ...], style: Look | None, front: bool, leaks: bool) -> None:
    x, value, low, high = point
    reach = np.nan_to_num(np.array([[max(value - low, 0)], [max(high - value, 0)]]))
    colour = MUTED if style is None else style.colour
    axes.errorbar(
        [x],
        [value],
        yerr=reach,
        fmt="x" if leaks else "o" if style is None else style.marker,
        color=colour,
        markersize=4 if style is None else 6.5,
        elinewidth=0.7 if style is None else 1.3,
        markerfacecolor=colour if front else "white",
    )
