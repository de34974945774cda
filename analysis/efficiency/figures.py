"""What indexer and attention cost as the context grows, where time and memory go, and the front of patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from indexscope.analysis.metrics.registry import label as metric_label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import spread, values
from indexscope.analysis.plots.style import MUTED, legend_above, look, new_figure, short_labels, styled

COMPONENTS = ("indexer", "selection", "attention", "model")
_MIB = 2.0**20


@styled
def cost_by_length(
    latency: Mapping[str, pl.DataFrame], projection: Mapping[str, pl.DataFrame], series: Sequence[str]
) -> Figure | None:
    """Measured latency and FLOPs by formula against context length, both on logarithmic axes.

    Args:
        latency: Series name to rows of length, ms, low, high (median and the 5th to 95th percentile).
        projection: Series name to rows of length, flops.
        series: Names in order, which fixes each one's colour and marker.

    Returns:
        The figure, or None where there is neither.
    """
    timed = {name: frame for name, frame in latency.items() if frame["ms"].count()}
    counted = {name: frame for name, frame in projection.items() if frame["flops"].count()}
    if not timed and not counted:
        return None
    labels = short_labels(list(series), 30)
    figure = new_figure(3.35)
    grid = figure.subplots(1, 2, squeeze=False)
    for index, name in enumerate(series):
        style = look(index)
        if name in timed:
            rows = timed[name].sort("length")
            middle = values(rows, "ms")
            reach = [np.clip(middle - values(rows, "low"), 0, None), np.clip(values(rows, "high") - middle, 0, None)]
            grid[0, 0].errorbar(
                values(rows, "length"),
                middle,
                yerr=np.nan_to_num(np.array(reach)),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                capsize=2.5,
                label=labels[name],
            )
            note(grid[0, 0], rows, "length", "ms", ["low", "high"], panel="measured latency", series=name)
        if name in counted:
            rows = counted[name].sort("length")
            grid[0, 1].plot(
                values(rows, "length"),
                values(rows, "flops"),
                color=style.colour,
                marker=style.marker,
                linestyle=style.line,
                label=labels[name],
            )
            note(grid[0, 1], rows, "length", "flops", panel="operations by formula", series=name)
    _finish(grid[0, 0], timed, "measured latency (ms; bars: 5th to 95th percentile)")
    _finish(grid[0, 1], counted, "operations by formula (FLOPs)")
    legend_above(figure, grid.flat)
    return figure


def _finish(axes: Axes, frames: Mapping[str, pl.DataFrame], label: str) -> None:
    axes.set_title(label, fontweight="normal")
    axes.set_xlabel("context length (tokens)")
    if not frames:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return
    lengths = spread([length for frame in frames.values() for length in frame["length"].to_list()], 8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([float(length) for length in lengths]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tokens(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    low, high = axes.get_ylim()
    axes.set_ylim(10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high)))
    axes.yaxis.set_major_locator(LogLocator(numticks=8))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _amount(value)))


def _tokens(value: float) -> str:
    for size, suffix in ((2**20, "M"), (2**10, "k")):
        if value >= size and value % size == 0:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _amount(value: float) -> str:
    power = int(np.floor(np.log10(value) + 1e-9)) if value > 0 else 0
    if -4 < power < 4:
        return f"{value:g}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


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
        memory.yaxis.set_minor_locator(NullLocator())
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
    grid[0, 0].set_ylabel(f"{metric_label('head_recall')}, better ↑")
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
