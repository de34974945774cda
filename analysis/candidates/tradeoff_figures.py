"""What is paid and what is got: indexer cost against next-token loss and selection recall."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.comparison.fronts import model_front
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import overall, sample_count
from indexscope.analysis.plots.style import MUTED, legend_above, look, new_figure, short_labels, styled

_QUALITY = (("nll", "better ↓"), ("selection_recall", "better ↑"))


@styled
def quality_against_cost(metrics: pl.DataFrame, models: Sequence[str], leaking: Collection[str] = ()) -> Figure | None:
    """Each model as a point: indexer FLOPs across, quality with its interval up.

    The line joins the Pareto front of each panel; models that another one beats in cost and quality at once are hollow.

    Args:
        metrics: Metrics of all models (columns model, metric, layer, value, ci_low, ci_high, n).
        models: Names in report order.
        leaking: Names of those that leak, which do not compete.

    Returns:
        The figure, or None where fewer than two models have both.
    """
    own = {name: metrics.filter(pl.col("model") == name) for name in models}
    cost = {name: found[0] for name in models if (found := overall(own[name], "indexer_flops")) is not None}
    panels = [
        (metric, hint) for metric, hint in _QUALITY if sum(overall(own[name], metric) is not None for name in cost) > 1
    ]
    if len(cost) < 2 or not panels:
        return None
    figure = new_figure(3.2)
    grid = figure.subplots(1, len(panels), squeeze=False)
    labels, competing = short_labels(list(models)), [name for name in models if name not in leaking]
    top = max(cost.values())
    scale, prefix = next(
        (pair for pair in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if top >= pair[0]), (1, "")
    )
    for axes, (metric, hint) in zip(grid.flat, panels, strict=True):
        on_front = model_front(metrics, competing, metric)
        front = sorted((name for name, on in on_front.items() if on), key=lambda name: cost[name])
        axes.plot(
            [cost[name] / scale for name in front],
            [found[0] for name in front if (found := overall(own[name], metric)) is not None],
            color=MUTED,
            linewidth=1.1,
            linestyle=(0, (2, 2)),
            zorder=1,
            label="Pareto front",
        )
        for index, name in enumerate(models):
            point = overall(own[name], metric)
            if name not in cost or point is None:
                continue
            style, (value, low, high) = look(index), point
            reach = np.nan_to_num(np.array([[max(value - low, 0)], [max(high - value, 0)]]))
            axes.errorbar(
                [cost[name] / scale],
                [value],
                yerr=reach,
                fmt=style.marker,
                color=style.colour,
                markersize=7,
                capsize=4,
                markerfacecolor=style.colour if name in front else "white",
                label=labels[name],
            )
        _note(axes, own, cost, metric, scale)
        axes.set_title(f"{metric} ({REGISTRY[metric].unit}), {hint}")
        axes.set_xlabel(f"indexer_flops ({prefix}{REGISTRY['indexer_flops'].unit}), cheaper ←")
        axes.set_xlim(0, top / scale * 1.12)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    grid[0, 0].set_ylabel(f"bars: CI (n = {sample_count(metrics)} samples)")
    legend_above(figure, grid.flat)
    return figure


def _note(axes: Axes, own: Mapping[str, pl.DataFrame], cost: Mapping[str, float], metric: str, scale: float) -> None:
    rows = []
    for name in cost:
        found = own[name].filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite())
        rows.append(found.with_columns(model=pl.lit(name), indexer_flops=pl.lit(cost[name])))
    points = pl.concat(rows, how="diagonal_relaxed").rename({"value": metric})
    x = points["indexer_flops"].to_numpy() / scale
    note(axes, points, x, metric, ["model", "indexer_flops", metric], panel=metric)
