"""A sweep of fitted indexers: cost against quality by size, keys and shared layers, between dense and oracle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.candidates.tradeoff_figures import paid_and_got
from indexscope.analysis.comparison.fronts import COST, model_front
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.drawing import Drawing, note
from indexscope.analysis.plots.labels import label_points
from indexscope.analysis.plots.style import INK, MUTED, WIDTH, legend_above, look, new_figure, short_labels, styled
from indexscope.analysis.report.kinds import Kind

_HEIGHT = 3.9
#: Markers of an indexer as it was fitted, of its layers sharing in one way or another, and of what was found.
_AS_FITTED, _SHARED, _EDITED = "o", ("s", "^", "v", "P"), "*"
ORACLE, DENSE = "oracle: the best choice", "dense"


@styled
def sweep(
    comparisons: pl.DataFrame,
    metrics: pl.DataFrame,
    kinds: Mapping[str, Kind],
    baseline: str,
    void: Collection[str] = (),
) -> Drawing | None:
    """Candidates as points: relative cost across, the difference of quality from the baseline up.

    Colour is the fitted indexer, shape how its layers select, the number beside a point its keys. The oracle of each
    number of keys and the baseline bound them. What lies beyond the points of indexers is an arrow at the edge.

    Args:
        comparisons: Rows of the comparison.
        metrics: Metrics of all models, of which the Pareto front is made; the oracle is no model and does not compete.
        kinds: What each model is.
        baseline: Name of the baseline, at 0.
        void: Names of those that leak, which are left out.

    Returns:
        The figure, or None where fewer than two fitted indexers have both.
    """
    metric, found = paid_and_got(comparisons)
    rows = [
        {"model": row["candidate"], **{key: row[key] for key in ("cost", "difference", "ci_low", "ci_high", "n")}}
        for row in found.iter_rows(named=True)
        if row["candidate"] in kinds and row["candidate"] not in void
    ]
    if sum(kinds[row["model"]].group == "fitted" for row in rows) < 2:
        return None
    base = found["base"].drop_nulls()
    if len(base) and baseline not in void:
        rows.insert(0, {"model": baseline, "cost": base[0], "difference": 0.0})
    points = pl.DataFrame([_told(row, kinds[row["model"]]) for row in rows], infer_schema_length=None)
    figure = new_figure(_HEIGHT)
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
    bounds = _limits(axes, points)
    competing = [name for name in points["model"] if kinds[name].group != "oracle"]
    front = {name for name, on in model_front(metrics, competing, metric).items() if on}
    _lines(axes, points, front)
    at = _marks(axes, points, front, bounds)
    told = ["model", "kind", "indexer", "layers", "keys", "cost", "difference"]
    note(axes, points, points["cost"].to_numpy(), "difference", told, unit=REGISTRY[metric].unit)
    axes.set_ylabel(f"Δ {label(metric)} ({REGISTRY[metric].unit}), better {'↓' if metric == 'nll' else '↑'}")
    axes.set_xlabel(f"{label(COST)} (dense attention = 1), cheaper ←")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    label_points(axes, at, _labels(points), (WIDTH - 0.8, _HEIGHT - 1.2))
    legend_above(figure, [axes], 5)
    return figure


def beyond(figure: Drawing) -> list[tuple[str, float]]:
    """Models that lie outside the axis, and their differences."""
    low, high = figure.axes[0].get_ylim()
    rows = figure.data.filter((pl.col("difference") < low) | (pl.col("difference") > high))
    return list(rows.select("model", "difference").iter_rows())


def _told(row: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    words = {"kind": kind.group, "indexer": kind.size or None, "keys": kind.topk}
    layers = {"layers": (kind.change or "as fitted") if kind.group == "fitted" else None}
    return {**row, **words, **layers}


def _limits(axes: Axes, points: pl.DataFrame) -> tuple[float, float]:
    """Set the limits by what is fitted and what bounds it, and return those upward."""
    shown = points.filter(pl.col("kind") != "other")
    ends = [value for name in ("difference", "ci_low", "ci_high") for value in shown[name].drop_nulls().to_list()]
    low, high = min(0.0, *ends), max(0.0, *ends)
    room = 0.1 * ((high - low) or 1.0)
    axes.set_xlim(0, 1.08 * float(points["cost"].max()))  # type: ignore[arg-type]
    axes.set_ylim(low - room, high + room)
    return low - room, high + room


def _lines(axes: Axes, points: pl.DataFrame, front: Collection[str]) -> None:
    """What the best choice of every number of keys gives, and the Pareto front."""
    oracle = points.filter(pl.col("kind") == "oracle").sort("cost")
    if len(oracle):
        line: dict[str, Any] = {
            "color": INK,
            "linewidth": 1.1,
            "linestyle": (0, (1.3, 1.3)),
            "marker": "x",
            "markersize": 5.5,
        }
        axes.plot(oracle["cost"], oracle["difference"], zorder=2, label=ORACLE, **line)
    kept = points.filter(pl.col("model").is_in(list(front))).sort("cost", "difference")
    axes.plot(kept["cost"], kept["difference"], color=MUTED, linewidth=1.1, linestyle=(0, (5, 2)), zorder=1)


def _marks(
    axes: Axes, points: pl.DataFrame, front: Collection[str], bounds: tuple[float, float]
) -> dict[str, tuple[float, ...]]:
    """Draw the points, and say where they are."""
    sizes = points["indexer"].drop_nulls().unique(maintain_order=True).to_list()
    markers = _markers(points["layers"].drop_nulls().unique(maintain_order=True).to_list())
    colours = {size: look(place).colour for place, size in enumerate(sizes)}
    for size, colour in colours.items():
        axes.plot([], [], linestyle="none", marker="o", color=colour, label=size)
    for layers, marker in markers.items():
        axes.plot([], [], linestyle="none", marker=marker, color=MUTED, markersize=_size(marker), label=layers)
    at: dict[str, tuple[float, ...]] = {}
    for row in points.iter_rows(named=True):
        x, y = row["cost"], min(max(row["difference"], bounds[0]), bounds[1])
        ends = [y if row[name] is None else row[name] for name in ("ci_low", "ci_high")]
        at[row["model"]] = (x, y, *ends)
        colour = colours.get(row["indexer"], INK if row["kind"] in ("dense", "oracle") else MUTED)
        axes.vlines(x, *ends, color=colour, linewidth=1.1, zorder=2)
        if row["kind"] == "oracle":
            continue
        marker = markers.get(row["layers"], "X" if row["kind"] == "dense" else "D")
        if y != row["difference"]:
            marker = "^" if row["difference"] > y else "v"
        axes.plot(
            [x],
            [y],
            linestyle="none",
            marker=marker,
            color=colour,
            markersize=_size(marker),
            markerfacecolor=colour if row["model"] in front else "white",
            clip_on=False,
            zorder=3,
        )
    return at


def _markers(layers: Sequence[str]) -> dict[str, str]:
    """A marker for each way in which layers select."""
    shared = [one for one in layers if one not in ("as fitted", "edited")]
    own = {one: _SHARED[place % len(_SHARED)] for place, one in enumerate(shared)}
    known = {"as fitted": _AS_FITTED, **own, "edited": _EDITED}
    return {one: known[one] for one in known if one in layers}


def _size(marker: str) -> float:
    return 10.0 if marker == _EDITED else 6.5


def _labels(points: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Keys of what selects, names of the rest."""
    sizes = points["indexer"].drop_nulls().unique(maintain_order=True).to_list()
    names = short_labels(points["model"].to_list(), 22)
    found = {}
    for row in points.iter_rows(named=True):
        if row["kind"] == "fitted":
            text, colour = "" if row["keys"] is None else f"{row['keys']}", look(sizes.index(row["indexer"])).colour
        else:
            named = row["kind"] != "oracle" or row["keys"] is None
            text = names[row["model"]] if named else f"{row['keys']}"
            colour = INK if row["kind"] in ("dense", "oracle") else MUTED
        if text:
            found[row["model"]] = (text, colour)
    return found
