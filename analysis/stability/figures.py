"""What ties and less precise scores change of each layer's selection."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.lines import percents
from indexscope.analysis.plots.style import Look, legend_above, look, new_figure, short_labels, styled


@styled
def changed_by_variant(
    variants: Mapping[str, pl.DataFrame],
    rerun: Mapping[str, pl.DataFrame],
    labels: Mapping[str, str],
    looks: Mapping[str, Look],
) -> Figure | None:
    """Changed share of the selection over all layers, a row each variant: from the same scores, and run again.

    Args:
        variants: The frame ``variants`` by model.
        rerun: The frame ``rerun`` by model; without rows the second panel is left out.
        labels: Variants in the order of the rows, with their names.
        looks: The models to draw, in order, with their looks.

    Returns:
        The figure, or None where no model has scores.
    """
    kept = pl.col("layer").is_null() & pl.col("changed").is_finite() & pl.col("variant").is_in(list(labels))
    panels = []
    for title, frames in (("same scores", variants), ("model run again", rerun)):
        own = {name: rows for name in looks if name in frames and (rows := frames[name].filter(kept)).height}
        if own:
            panels.append((title, own))
    if not panels:
        return None
    held = {variant for _, own in panels for rows in own.values() for variant in rows["variant"]}
    shown = [variant for variant in labels if variant in held]
    most = max(len(own) for _, own in panels)
    figure, short = new_figure(1.0 + max(0.24, 0.09 * most + 0.06) * len(shown)), short_labels(list(looks))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for axes, (title, own) in zip(grid, panels, strict=True):
        for place, (name, rows) in enumerate(own.items()):
            shift = 0.34 * (2 * (place + 0.5) / len(own) - 1) if len(own) > 1 else 0.0
            at, style = [shown.index(variant) + shift for variant in rows["variant"]], looks[name]
            axes.hlines(at, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, linewidth=1.3)
            axes.plot(
                values(rows, "changed"), at, color=style.colour, marker=style.marker, linestyle="", label=short[name]
            )
            note(axes, rows, "changed", at, ["variant"], panel=title, series=name)
        axes.set_title(title)
        axes.set_xlim(left=0, right=max(0.001, axes.get_xlim()[1]))
        percents(axes.xaxis)
        axes.set_xlabel("selection that changes")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    figure.axes[0].set_yticks(range(len(shown)), [labels[variant] for variant in shown])
    figure.axes[0].set_ylim(len(shown) - 0.5, -0.5)
    legend_above(figure, figure.axes)
    return figure


@styled
def changed_by_layer(variants: pl.DataFrame, rerun: pl.DataFrame, labels: Mapping[str, str]) -> Figure | None:
    """Changed share of the selection by layer and variant: from the same scores, and when the model runs again.

    Args:
        variants: The frame ``variants`` of the stability analysis.
        rerun: The frame ``rerun``; without rows the second panel is left out.
        labels: Variants in the order of their looks, with their names in the legend.

    Returns:
        The figure, or None where no layer has scores.
    """
    titles = ("in each layer alone", "in a run with the variant in all layers")
    shown = [
        (title, own)
        for title, frame in zip(titles, (variants, rerun), strict=True)
        if not (own := frame.filter(pl.col("layer").is_not_null() & pl.col("changed").is_not_null())).is_empty()
    ]
    if not shown:
        return None
    figure = new_figure(3.3)
    grid = figure.subplots(1, len(shown), squeeze=False)
    for axes, (title, rows) in zip(grid.flat, shown, strict=True):
        for index, (variant, label) in enumerate(labels.items()):
            _variant(axes, rows.filter(pl.col("variant") == variant).sort("layer"), index, label, title)
        axes.set_title(f"{title} (n = {largest(rows, 'n')})")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(bottom=0, top=max(0.01, axes.get_ylim()[1]))
    grid[0, 0].set_ylabel("selection that changes")
    legend_above(figure, grid.flat)
    return figure


def _variant(axes: Axes, rows: pl.DataFrame, index: int, label: str, panel: str) -> None:
    if rows.is_empty():
        return
    style = look(index)
    note(axes, rows, "layer", "changed", panel=panel, series=label)
    x = values(rows, "layer")
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, alpha=0.12, linewidth=0)
    marker = style.marker if len(x) <= 24 else ""
    axes.plot(x, values(rows, "changed"), color=style.colour, marker=marker, linestyle=style.line, label=label)
