"""Where the model's time goes and what memory its parts take, by context length; and the front of patterns."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.style import MUTED, legend_above, look, new_figure, styled

COMPONENTS = ("indexer", "selection", "attention", "model")
_MIB = 2.0**20


@styled
def time_and_memory(latency: pl.DataFrame) -> Figure | None:
    """Share of the model's time and peak memory of each component against context length.

    Args:
        latency: component, length, time_share, peak_bytes.

    Returns:
        The figure, or None where neither was measured.
    """
    parts = [name for name in COMPONENTS if name in set(latency["component"])]
    if not parts or not {"time_share", "peak_bytes"} <= set(latency.columns):
        return None
    figure = new_figure(3.2)
    shares, memory = figure.subplots(1, 2)
    for name in parts:
        rows = latency.filter(pl.col("component") == name).sort("length")
        style = look(COMPONENTS.index(name))
        length = values(rows, "length")
        kind = {"color": style.colour, "marker": style.marker, "linestyle": style.line, "label": name}
        if name != "model":
            shares.plot(length, 100 * values(rows, "time_share"), **kind)
            time = 100 * values(rows, "time_share")
            note(shares, rows, "length", time, ["time_share"], panel="share of the model's time", series=name)
        memory.plot(length, values(rows, "peak_bytes") / _MIB, **kind)
        size = values(rows, "peak_bytes") / _MIB
        note(memory, rows, "length", size, ["peak_bytes"], panel="peak memory of one call", series=name)
    for axes, title in ((shares, "share of the model's time (%)"), (memory, "peak memory of one call (MiB)")):
        axes.set_title(title, fontweight="normal")
        axes.set_xlabel("context length (tokens)")
        _by_length(axes, latency["length"].to_list())
    shares.set_ylim(bottom=0)
    if (latency["peak_bytes"].fill_null(0) > 0).any():
        memory.set_yscale("log")
        memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        memory.text(0.5, 0.5, "not measured", transform=memory.transAxes, ha="center", va="center")
    legend_above(figure, (shares, memory))
    return figure


def _by_length(axes: Axes, lengths: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(length) for length in spread(lengths, 8)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


@styled
def patterns_front(patterns: pl.DataFrame) -> Figure | None:
    """Heads and pattern types: share of keys needed against recall, those on the front filled and joined.

    Args:
        patterns: As `indexscope.analysis.efficiency.patterns.patterns_pareto` gives them.
    """
    levels = [level for level in ("head", "pattern type") if level in set(patterns["level"])]
    if not levels:
        return None
    figure = new_figure(3.3)
    grid = figure.subplots(1, len(levels), squeeze=False, sharey=True)
    for axes, level in zip(grid.flat, levels, strict=True):
        rows = patterns.filter(pl.col("level") == level).sort("cost", "quality")
        front = rows["on_front"].to_numpy()
        cost, quality = 100 * values(rows, "cost"), values(rows, "quality")
        axes.plot(cost[front], quality[front], color=MUTED, linestyle=(0, (2, 2)), linewidth=1.1, label="Pareto front")
        if level == "head":
            _heads(axes, rows, cost, quality)
        else:
            _types(axes, rows, cost, quality)
        of = {"head": ["layer", "head"], "pattern type": ["pattern_type"]}[level]
        told = [*of, "cost", "quality", "quality_low", "quality_high", "on_front"]
        note(axes, rows, cost, "quality", told, panel=level)
        axes.set_title(f"one point a {level}", fontweight="normal")
        axes.set_xlabel("eligible keys that hold 95 % of the attention (%), cheaper ←")
    grid[0, 0].set_ylabel("head_recall, better ↑")
    legend_above(figure, grid.flat[:1], 7)
    return figure


def _heads(axes: Axes, rows: pl.DataFrame, cost: np.ndarray, quality: np.ndarray) -> None:
    layers = rows["layer"].to_numpy()
    front = rows["on_front"].to_numpy()
    several = np.unique(layers)
    for place, layer in enumerate(several):
        style = look(place)
        own = layers == layer
        label = f"layer {layer}" if len(several) <= 8 else None
        axes.scatter(
            cost[own & front], quality[own & front], s=30, color=style.colour, marker=style.marker, label=label
        )
        axes.scatter(
            cost[own & ~front],
            quality[own & ~front],
            s=24,
            facecolors="none",
            edgecolors=style.colour,
            marker=style.marker,
            label=label if not (own & front).any() else None,
        )


def _types(axes: Axes, rows: pl.DataFrame, cost: np.ndarray, quality: np.ndarray) -> None:
    handles = []
    for place in np.argsort(-quality, kind="stable").tolist():
        style = look(place)
        handles += axes.plot(
            cost[place],
            quality[place],
            linestyle="",
            marker=style.marker,
            markersize=6,
            color=style.colour,
            markerfacecolor=style.colour if rows["on_front"][place] else "none",
            label=rows["pattern_type"][place],
        )
    axes.legend(handles=handles, loc="best", fontsize=8)
    axes.margins(x=0.08, y=0.12)
