"""What the indexer's scores look like, for the keys it selects and for those it leaves."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.style import BLUE, ORANGE, legend_above, new_figure, styled

_PANELS = 6
_GROUPS = (("selected", BLUE, "-"), ("unselected", ORANGE, (0, (4, 1.5))))


@styled
def score_histograms(histogram: pl.DataFrame) -> Figure | None:
    """Score densities of selected and unselected keys, in at most six layers spread over the model.

    Args:
        histogram: Columns layer, group, left, right, density, count.

    Returns:
        The figure, or None where the frame is empty.
    """
    rows = histogram.filter(pl.col("layer").is_not_null() & pl.col("density").is_finite())
    if rows.is_empty():
        return None
    layers = spread(rows["layer"].to_list(), _PANELS)
    columns = min(3, len(layers)) if len(layers) != 4 else 2
    height = -(-len(layers) // columns)
    figure = new_figure(2.05 * height + 0.5)
    grid = figure.subplots(height, columns, squeeze=False)
    for axes, layer in zip(grid.flat, layers, strict=False):
        own = rows.filter(pl.col("layer") == layer)
        count = int(own["count"].sum())
        _densities(axes, own)
        axes.set_title(f"layer {layer} ({count:,} scores)")
    for axes in grid.flat[len(layers) :]:
        axes.remove()
    for axes in grid[:, 0]:
        axes.set_ylabel("density")
    figure.supxlabel("index score I (the model's own unit)", fontsize=9)
    legend_above(figure, grid.flat)
    return figure


def _densities(axes: Axes, rows: pl.DataFrame) -> None:
    for group, colour, line in _GROUPS:
        own = rows.filter(pl.col("group") == group).sort("left")
        if own.is_empty():
            continue
        edges = [*own["left"].to_list(), own["right"][-1]]
        area = axes.stairs(values(own, "density"), edges, fill=True, label=group)
        area.set(facecolor=(*_rgb(colour), 0.25), edgecolor=colour, linestyle=line, linewidth=1.2)
        middle = (values(own, "left") + values(own, "right")) / 2
        told = ["layer", "left", "right", "density", "count"]
        note(axes, own, middle, "density", told, panel=f"layer {own['layer'][0]}", series=group)
    positive = rows.filter(pl.col("density") > 0)["density"]
    if not positive.is_empty() and float(positive.max()) > 200 * float(positive.median()):  # type: ignore[arg-type]
        axes.set_yscale("log")  # ReLU piles scores up at zero: a linear axis would show that spike alone
        # Plain numbers: mathematical text is off, since names come from foreign files.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=None if axes.get_yscale() == "log" else 0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


@styled
def score_bands(quantiles: pl.DataFrame) -> Figure | None:
    """Median score and its outer band by layer, for selected and unselected keys.

    Args:
        quantiles: Columns layer, group, quantile, value, count.

    Returns:
        The figure, or None with fewer than two layers or without a median.
    """
    rows = quantiles.filter(pl.col("layer").is_not_null() & pl.col("value").is_finite())
    levels = sorted(rows["quantile"].unique().to_list())
    if rows["layer"].n_unique() < 2 or 0.5 not in levels:
        return None
    low = min(levels, key=lambda level: abs(level - 0.05))
    high = min(levels, key=lambda level: abs(level - 0.95))
    figure = new_figure(2.9)
    axes = figure.subplots()
    for group, colour, line in _GROUPS:
        own = rows.filter(pl.col("group") == group).pivot(on="quantile", index="layer", values="value").sort("layer")
        if own.is_empty() or str(0.5) not in own.columns:
            continue
        x = values(own, "layer")
        if low < 0.5 < high and {str(low), str(high)} <= set(own.columns):
            label = f"{group}: {low:.0%} to {high:.0%} quantile".replace("%", " %")
            band = axes.fill_between(x, values(own, str(low)), values(own, str(high)), label=label)
            band.set(facecolor=(*_rgb(colour), 0.2), edgecolor=(*_rgb(colour), 0.6), linewidth=0.4)
        axes.plot(x, values(own, str(0.5)), color=colour, linestyle=line, label=f"{group}: median")
        told = own.rename({str(level): f"quantile_{level:g}" for level in levels if str(level) in own.columns})
        every = [name for name in told.columns if name.startswith("quantile_")]
        note(axes, told, "layer", "quantile_0.5", every, series=group)
    axes.set_xlabel("layer")
    axes.set_ylabel("index score I (the model's own unit)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    legend_above(figure, [axes])
    return figure


def _rgb(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
