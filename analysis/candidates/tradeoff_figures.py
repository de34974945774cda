"""What is paid and what is got: cost against next-token loss, or against selection recall."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.candidates.key_figures import HALF
from indexscope.analysis.comparison.fronts import COST, model_front
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.drawing import Array, note
from indexscope.analysis.plots.style import INK, MUTED, Look, new_figure, short_labels, styled

_QUALITY = ("nll", "selection_recall")
_SIZE = 7.5
_WIDE, _HIGH = 0.58, 1.25
"""Of a letter and of a line, in font sizes."""

Box = tuple[float, float, float, float]


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
    rows = comparisons.filter(pl.col("layer").is_null())
    paid = rows.filter((pl.col("metric") == COST) & pl.col("value").is_finite())
    for metric in _QUALITY:
        found = rows.filter((pl.col("metric") == metric) & pl.col("difference").is_finite()).join(
            paid.select("candidate", cost="value", base="baseline"), on="candidate", maintain_order="left"
        )
        if found.height:
            break
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
    _named(axes, at, looks)
    return figure


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


def _named(axes: Axes, at: Mapping[str, tuple[float, ...]], looks: Mapping[str, Look]) -> None:
    """Names beside their points, where they hide neither a point nor another name."""
    low, high = axes.get_xlim(), axes.get_ylim()
    room = np.array([(HALF - 0.8) * 72, (2.9 - 0.6) * 72])  # of the panel, in points; a little less is no harm
    start, size = np.array([low[0], high[0]]), np.array([low[1] - low[0], high[1] - high[0]])
    spots = {name: (np.array(point[:2]) - start) / size * room for name, point in at.items()}
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots.values()]
    for name, point in at.items():
        x, ends = spots[name][0], (np.array(point[2:]) - start[1]) / size[1] * room[1]
        taken.append((x - 1, ends[0], x + 1, ends[1]))
    for name, text in short_labels([name for name in at if name in looks], 22).items():
        box, found = _free(spots[name], len(text) * _WIDE * _SIZE, room, taken)
        if box is None:
            continue
        taken.append(box)
        (x, y), (across, up) = at[name][:2], found
        axes.annotate(
            text,
            (x, y),
            (7 * across, 6 * up),
            textcoords="offset points",
            ha=("right", "center", "left")[across + 1],
            va=("top", "center", "bottom")[up + 1],
            fontsize=_SIZE,
            color=looks[name].colour,
        )


def _free(at: Array, width: float, room: Array, taken: Sequence[Box]) -> tuple[Box | None, tuple[int, int]]:
    for across, up in ((1, 1), (-1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)):
        x = at[0] + 7 * across - width * (1 - across) / 2
        y = at[1] + 6 * up - _HIGH * _SIZE * (1 - up) / 2
        box = (x, y, x + width, y + _HIGH * _SIZE)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= room[0] and box[3] <= room[1]
        if inside and not any(_overlap(box, other) for other in taken):
            return box, (across, up)
    return None, (0, 0)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
