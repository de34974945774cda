"""How much of the attention k keys hold, by k, and how the index scores drift along the sequence."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, spread, values
from indexscope.analysis.plots.style import GRID, INK, MUTED, legend_above, look, new_figure, styled

_LAYERS = 4
_DRIFT = (
    ("selected_mean", "mean of selected keys"),
    ("threshold", "k-th score"),
    ("unselected_mean", "mean of others"),
)


@styled
def recall_curves(curve: pl.DataFrame, k: float | None, targets: tuple[float, ...]) -> Figure | None:
    """Recall over k of the indexer's and of the best keys, over all layers and, thin, in each layer.

    Args:
        curve: The frame ``curve`` of the budget analysis.
        k: The model's own k, which is marked; None for dense models.
        targets: Recalls to mark.

    Returns:
        The figure, or None where there is no curve.
    """
    overall = curve.filter(pl.col("layer").is_null()).sort("k")
    if overall.is_empty():
        return None
    figure = new_figure(3.6)
    axes = figure.subplots()
    for target in targets:
        axes.axhline(target, color=GRID, linewidth=0.9, zorder=0)
        axes.annotate(f"{target:.0%}", (1.0, target), xycoords=("axes fraction", "data"), xytext=(3, 0),
                      textcoords="offset points", va="center", color=MUTED, fontsize=8)  # fmt: skip
    drawn = (("oracle", "oracle_", "best keys (oracle)"), ("indexer", "", "keys in the indexer's order"))
    for index, (name, prefix, label) in enumerate(drawn):
        if overall[f"{name}_recall"].null_count() == overall.height:
            continue
        style = look(1 - index)
        for layer in sorted(curve["layer"].drop_nulls().unique()):
            own = curve.filter(pl.col("layer") == layer).sort("k")
            note(axes, own, "k", f"{name}_recall", ["layer"], series=f"{label}, single layers")
            axes.plot(
                values(own, "k"), values(own, f"{name}_recall"), color=style.colour, linewidth=0.6, alpha=0.35, zorder=1
            )
        x = values(overall, "k")
        low, high = values(overall, f"{prefix}ci_low"), values(overall, f"{prefix}ci_high")
        axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
        banded = overall.with_columns(ci_low=f"{prefix}ci_low", ci_high=f"{prefix}ci_high")
        note(axes, banded, "k", f"{name}_recall", series=label)
        axes.plot(
            x,
            values(overall, f"{name}_recall"),
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            label=label,
        )
    if k is not None:
        axes.axvline(k, color=INK, linewidth=0.9, linestyle=(0, (3, 2)), label=f"the model's k = {k:g}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("k (keys that every query may attend to)")
    axes.set_ylabel("dense attention held (share)")
    axes.set_title(f"all layers; thin lines: single layers (n = {largest(overall, 'n')} samples)")
    legend_above(figure, [axes])
    return figure


@styled
def score_drift(drift: pl.DataFrame) -> Figure | None:
    """Mean score of selected and other keys and the k-th score by position, in up to four layers.

    Args:
        drift: The frame ``drift`` of the budget analysis.

    Returns:
        The figure, or None where no layer has a k-th score in two buckets.
    """
    known = drift.filter((pl.col("quantity") == "threshold") & pl.col("value").is_not_null())
    counts = known.group_by("layer").len().filter(pl.col("len") > 1)
    layers = spread(counts["layer"].to_list(), _LAYERS)
    if not layers:
        return None
    figure = new_figure(2.9)
    grid = figure.subplots(1, len(layers), squeeze=False)
    for axes, layer in zip(grid.flat, layers, strict=True):
        axes.set_title(f"layer {layer}")
        _layer(axes, drift.filter(pl.col("layer") == layer))
    grid[0, 0].set_ylabel("index score")
    legend_above(figure, grid.flat)
    return figure


def _layer(axes: Axes, rows: pl.DataFrame) -> None:
    for index, (quantity, label) in enumerate(_DRIFT):
        own = rows.filter((pl.col("quantity") == quantity) & pl.col("value").is_not_null()).sort("bucket")
        style = look(index)
        x = values(own, "bucket")
        low, high = values(own, "ci_low"), values(own, "ci_high")
        axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
        axes.plot(x, values(own, "value"), color=style.colour, marker=style.marker, linestyle=style.line, label=label)
        note(axes, own, "bucket", "value", ["layer"], panel=axes.get_title(loc="left"), series=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2.0**value - 1:,.0f}"))
    axes.set_xlabel("position of the query from")
    axes.tick_params(axis="x", labelrotation=38)
    if not np.isfinite(axes.get_ylim()).all():
        axes.set_ylim(0, 1)
