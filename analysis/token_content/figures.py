"""Which kinds of tokens are selected and attended more often than by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from indexscope.analysis.plots.beside import legend_below
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import Array, largest, values
from indexscope.analysis.plots.lifts import log_two, positive
from indexscope.analysis.plots.style import GRID, INK, legend_above, look, new_figure, short_labels, styled

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
    left.set_title(f"all layers (n = {largest(rows, 'n')} samples)")
    left.set_xlabel("lift (log)")
    legend_below(left, 2)
    _layers(right, by_layer, _striking(rows))
    return figure


@styled
def content_of_models(lifts: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """Lift by kind of token over all layers with intervals, the models side by side in each kind.

    Args:
        lifts: Model name to its ``lift`` frame. Of a model that selects nothing the attention's is drawn.
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where no model has a lift.
    """
    overall = {name: lifts[name].filter(pl.col("layer").is_null()) for name in models if name in lifts}
    shown = {name: rows for name, rows in overall.items() if _drawn_of(rows) is not None}
    kinds = list(dict.fromkeys(str(kind) for rows in shown.values() for kind in rows["token_class"]))
    if not kinds:
        return None
    figure = new_figure(1.1 + len(kinds) * (0.17 + 0.1 * len(shown)))
    axes = figure.subplots()
    axes.axvline(1, color=INK, linewidth=0.9)
    labels = short_labels(list(models))
    for number, (name, rows) in enumerate(shown.items()):
        apart = (number - (len(shown) - 1) / 2) * 0.7 / max(len(shown), 2)
        place = np.array([kinds.index(str(kind)) + apart for kind in rows["token_class"]])
        prefix = _drawn_of(rows) or ""
        columns = tuple(f"{prefix}{part}" for part in ("lift", "ci_low", "ci_high"))
        words = labels[name] + (" (attention)" if prefix else "")
        _dots(axes, rows, place, (columns[0], columns[1], columns[2]), words, list(models).index(name), panel="")
    every = pl.concat([rows.select("token_class", "n") for rows in shown.values()])
    most = largest(every, "n")
    counts = [largest(every.filter(pl.col("token_class") == kind), "n") for kind in kinds]
    axes.set_yticks(
        range(len(kinds)),
        [kind if count == most else f"{kind} (n = {count})" for kind, count in zip(kinds, counts, strict=True)],
    )
    axes.set_ylim(len(kinds) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    for border in range(1, len(kinds)):
        axes.axhline(border - 0.5, color=GRID, linewidth=0.7)
    log_two(axes, "x")
    axes.set_title(f"n = {most} samples")
    axes.set_xlabel("lift (log)")
    legend_above(figure, [axes])
    return figure


def _drawn_of(rows: pl.DataFrame) -> str | None:
    """What of a model is drawn: "" the selection's columns, "attention_" the attention's, None nothing."""
    return "" if rows["lift"].count() else "attention_" if rows["attention_lift"].count() else None


def _dots(
    axes: Axes,
    rows: pl.DataFrame,
    place: Array,
    names: tuple[str, str, str],
    label: str,
    index: int,
    panel: str = "all layers",
) -> None:
    value, low, high = (positive(values(rows, name)) for name in names)
    style, gap = look(index), np.full(len(place), np.nan)
    ends, heights = np.stack([low, high, gap], axis=1).ravel(), np.repeat(place, 3)
    axes.plot(ends, heights, color=style.colour, linewidth=1.4)
    axes.plot(value, place, color=style.colour, marker=style.marker, linestyle="", label=label)
    bars = rows.select("token_class", "n", lift=names[0], ci_low=names[1], ci_high=names[2])
    note(axes, bars, "lift", place, ["token_class"], panel=panel, series=label)


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
    axes.set_ylabel("lift of the selection (log)")
    legend_below(axes, 2)


def _plain(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(base=2, numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}"))
