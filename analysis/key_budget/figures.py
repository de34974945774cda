"""How much of the attention k keys hold, by k, and how the index scores drift along the sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, spread, values
from indexscope.analysis.plots.lines import banded_rows, ring
from indexscope.analysis.plots.style import (
    GRID,
    INK,
    MUTED,
    Look,
    legend_above,
    look,
    new_figure,
    short_labels,
    styled,
)

_LAYERS = 4
DRIFT = {
    "selected_mean": "mean of selected keys",
    "threshold": "k-th score",
    "unselected_mean": "mean of others",
}


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
        banded_rows = overall.with_columns(ci_low=f"{prefix}ci_low", ci_high=f"{prefix}ci_high")
        note(axes, banded_rows, "k", f"{name}_recall", series=label)
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
    axes.set_xlabel("keys per query, k (log)")
    axes.set_ylabel("attention kept (share)")
    axes.set_title(f"all layers; thin lines: single layers (n = {largest(overall, 'n')} samples)")
    legend_above(figure, [axes])
    return figure


@styled
def budgets_of_models(
    curves: Mapping[str, pl.DataFrame], own_k: Mapping[str, float], models: Sequence[str]
) -> Figure | None:
    """Recall over k of all models over all layers: in the indexer's order, and thin in the best order.

    Args:
        curves: Model name to its frame ``curve``.
        own_k: The k of models that select, which is ringed.
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where there is no curve.
    """
    overall = {name: curves[name].filter(pl.col("layer").is_null()).sort("k") for name in models if name in curves}
    shown = {name: rows for name, rows in overall.items() if rows["oracle_recall"].count()}
    if not shown:
        return None
    figure = new_figure(3.7)
    axes = figure.subplots()
    labels = short_labels(list(models))
    for name, rows in shown.items():
        style = look(list(models).index(name))
        best = rows.with_columns(ci_low="oracle_ci_low", ci_high="oracle_ci_high")
        words = f"{labels[name]}, best order"
        if rows["indexer_recall"].count():
            axes.plot(values(best, "k"), values(best, "oracle_recall"), color=style.colour, linewidth=1.0, alpha=0.75,
                      linestyle=(0, (1, 1.2)))  # fmt: skip
            banded_rows(axes, rows, "k", "indexer_recall", style, labels[name])
            note(axes, rows, "k", "indexer_recall", series=f"{labels[name]}, indexer's order")
            _own(axes, rows, own_k.get(name), style)
        else:
            banded_rows(axes, best, "k", "oracle_recall", style, words)
        note(axes, best, "k", "oracle_recall", series=words)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(0, 1.03)
    axes.set_title(f"n = {max(largest(rows, 'n') for rows in shown.values())} samples")
    axes.set_xlabel("keys per query, k (log)")
    axes.set_ylabel("attention kept (share)")
    legend_above(figure, [axes])
    return figure


def _own(axes: Axes, rows: pl.DataFrame, k: float | None, style: Look) -> None:
    known = rows.drop_nulls("indexer_recall")
    if k is not None and known["k"][0] <= k <= known["k"][-1]:
        recall = np.interp(np.log(k), np.log(values(known, "k")), values(known, "indexer_recall"))
        ring(axes, k, float(recall), style)


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
    for index, (quantity, label) in enumerate(DRIFT.items()):
        own = rows.filter((pl.col("quantity") == quantity) & pl.col("value").is_not_null()).sort("bucket")
        style = look(index)
        x = values(own, "bucket")
        low, high = values(own, "ci_low"), values(own, "ci_high")
        axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
        axes.plot(x, values(own, "value"), color=style.colour, marker=style.marker, linestyle=style.line, label=label)
        note(axes, own, "bucket", "value", ["layer"], panel=axes.get_title(loc="left"), series=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{2.0**value - 1:,.0f}"))
    axes.set_xlabel("query position (log)")
    axes.tick_params(axis="x", labelrotation=38)
    if not np.isfinite(axes.get_ylim()).all():
        axes.set_ylim(0, 1)
