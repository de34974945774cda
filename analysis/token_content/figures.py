"""Which kinds of tokens are selected and attended more often than by chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from indexscope.analysis.plots.beside import legend_below
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import Array, largest, values
from indexscope.analysis.plots.lifts import positive
from indexscope.analysis.plots.style import INK, look, new_figure, styled

_FOLLOWED = 4
"""Kinds whose lift is drawn layer by layer: those farthest from 1 of those that are surely not 1, if there are any."""


@styled
def content_lift(lift: pl.DataFrame) -> Figure:
    """Lift by kind of token over all layers with intervals, and layer by layer with bands for the most striking kinds.

    Args:
        lift: The ``lift`` frame of the content analysis, with rows.
    """
    rows = lift.filter(pl.col("layer").is_null())
    kinds = [str(kind) for kind in rows["token_class"]]
    by_layer = lift.filter(pl.col("layer").is_not_null())
    figure = new_figure(max(3.0, 0.9 + 0.3 * len(kinds)))
    left, right = figure.subplots(1, 2)
    place = np.arange(len(kinds), dtype=float)
    _dots(left, rows, place - 0.14, ("lift", "ci_low", "ci_high"), "selection", 0)
    names = ("attention_lift", "attention_ci_low", "attention_ci_high")
    if rows["attention_lift"].count():  # a model may show its selection and not its attention
        _dots(left, rows, place + 0.14, names, "attention", 1)
    left.axvline(1, color=INK, linewidth=0.9)
    left.set_yticks(place, kinds)
    left.set_ylim(len(kinds) - 0.5, -0.5)
    left.set_xscale("log", base=2)
    _plain(left, "x")
    left.set_xlabel(f"lift (1 = by chance; bars: CI; n = {largest(rows, 'n')} samples)")
    legend_below(left, 2)
    _layers(right, by_layer, _striking(rows))
    return figure


def _dots(axes: Axes, rows: pl.DataFrame, place: Array, names: tuple[str, str, str], label: str, index: int) -> None:
    value, low, high = (positive(values(rows, name)) for name in names)
    style = look(index)
    for y, start, end in zip(place, low, high, strict=True):
        if np.isfinite(start + end):
            axes.plot([start, end], [y, y], color=style.colour, linewidth=1.4)
    axes.plot(value, place, color=style.colour, marker=style.marker, linestyle="", label=label)
    bars = rows.select("token_class", "n", lift=names[0], ci_low=names[1], ci_high=names[2])
    note(axes, bars, "lift", place, ["token_class"], panel="all layers", series=label)


def _striking(rows: pl.DataFrame) -> list[str]:
    known = rows.filter(pl.col("lift") > 0).with_columns(far=pl.col("lift").log().abs())
    sure = known.filter((pl.col("ci_low") > 1) | (pl.col("ci_high") < 1))
    known = known if sure.is_empty() else sure
    chosen = set(known.sort("far", descending=True).head(_FOLLOWED)["token_class"])
    return [str(kind) for kind in rows["token_class"] if kind in chosen]


def _layers(axes: Axes, rows: pl.DataFrame, kinds: Sequence[str]) -> None:
    axes.axhline(1, color=INK, linewidth=0.9)
    for index, kind in enumerate(kinds):
        own = rows.filter(pl.col("token_class") == kind).sort("layer")
        x, style = values(own, "layer"), look(index)
        low, high = (positive(values(own, name)) for name in ("ci_low", "ci_high"))
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
        marker = style.marker if own.height <= 24 else ""
        height = positive(values(own, "lift"))
        axes.plot(x, height, color=style.colour, marker=marker, linestyle=style.line, label=kind)
        note(axes, own, "layer", "lift", panel="by layer, selection", series=kind)
    axes.set_yscale("log", base=2)
    _plain(axes, "y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.set_xlabel("layer")
    axes.set_ylabel("lift of the selection (band: CI)")
    legend_below(axes, 2)


def _plain(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=2, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
