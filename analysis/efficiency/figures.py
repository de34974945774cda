"""What indexer and attention cost as the context grows, where time and memory go, and the front of patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from indexscope.analysis.metrics.registry import label as metric_label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, spread, values
from indexscope.analysis.plots.lines import percents, powers
from indexscope.analysis.plots.style import INK, MUTED, legend_above, look, new_figure, short_labels, styled

COMPONENTS = ("indexer", "selection", "attention", "model")
_PARTS = {
    "indexer": "indexer",
    "selection": "its topk",
    "attention": "attention",
    "model": "whole model",
}
_MIB = 2.0**20


@styled
def cost_by_length(
    latency: Mapping[str, pl.DataFrame],
    projection: Mapping[str, pl.DataFrame],
    series: Sequence[str],
    relative: Mapping[str, pl.DataFrame] = MappingProxyType({}),
) -> Figure | None:
    """Measured latency, FLOPs by formula, and FLOPs relative to dense attention, by context length.

    Args:
        latency: Series name to rows of length, ms, low, high (median and the 5th to 95th percentile).
        projection: Series name to rows of length, flops.
        series: Names in order, which fixes each one's colour and marker.
        relative: Series name to rows of length, relative (to dense attention).

    Returns:
        The figure, of the panels that have data, or None where there are none.
    """
    panels = [
        (title, column, {name: rows for name, rows in frames.items() if name in series and rows[column].count()})
        for title, column, frames in (
            ("latency (ms, log)", "ms", latency),
            ("operations (FLOPs, log)", "flops", projection),
            ("relative to dense attention", "relative", relative),
        )
    ]
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return None
    labels = short_labels(list(series), 30)
    figure = new_figure(3.1)
    grid = figure.subplots(1, len(panels), squeeze=False).flat
    for axes, (title, column, frames) in zip(grid, panels, strict=True):
        for index, name in enumerate(series):
            if name in frames:
                _by_length_of(axes, frames[name].sort("length"), column, index, (labels[name], title, name))
        _finish(axes, frames, title)
        if column == "relative":
            axes.axhline(1, color=INK, linewidth=0.9)
            axes.set_ylim(0, max(1.08, 1.08 * max(float(np.nanmax(values(rows, column))) for rows in frames.values())))
            percents(axes.yaxis)
        else:
            powers(axes)
    legend_above(figure, figure.axes)
    return figure


def _by_length_of(axes: Axes, rows: pl.DataFrame, column: str, index: int, told: tuple[str, str, str]) -> None:
    style, (label, title, name) = look(index), told
    kind = {"color": style.colour, "marker": style.marker, "linestyle": style.line, "label": label}
    length, middle = values(rows, "length"), values(rows, column)
    if column == "ms":
        reach = [np.clip(middle - values(rows, "low"), 0, None), np.clip(values(rows, "high") - middle, 0, None)]
        axes.errorbar(length, middle, yerr=np.nan_to_num(np.array(reach)), capsize=2.5, **kind)
    else:
        axes.plot(length, middle, **kind)
    note(axes, rows, "length", column, ["low", "high"], panel=title, series=name)


def _finish(axes: Axes, frames: Mapping[str, pl.DataFrame], label: str) -> None:
    axes.set_title(label, fontweight="normal")
    axes.set_xlabel("context length (tokens, log)")
    lengths = spread([length for frame in frames.values() for length in frame["length"].to_list()], 6)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator([float(length) for length in lengths]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tokens(value)))
    axes.xaxis.set_minor_locator(NullLocator())


def _tokens(value: float) -> str:
    for size, suffix in ((2**20, "M"), (2**10, "k")):
        if value >= size and value % size == 0:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def _peak(rows: pl.DataFrame) -> int:
    """The largest memory of a component; 0 where none was measured."""
    return largest(rows, "peak_bytes") if "peak_bytes" in rows.columns else 0


@styled
def cost_by_component(latency: Mapping[str, pl.DataFrame], series: Sequence[str]) -> Figure | None:
    """Time and peak memory of the parts of a prefill as bars, models beside each other.

    Args:
        latency: Series name to rows of component, length, ms, low, high, peak_bytes; drawn at the longest length that
            all have.
        series: Names in order, which fixes each one's colour.

    Returns:
        The figure, or None where nothing was measured at a common length.
    """
    timed = {name: rows for name in series if (rows := latency.get(name)) is not None and rows["ms"].count()}
    common = set.intersection(*(set(rows["length"]) for rows in timed.values())) if timed else set()
    if not common:
        return None
    own = {name: rows.filter(pl.col("length") == max(common)) for name, rows in timed.items()}
    parts = [name for name in COMPONENTS if any(name in set(rows["component"]) for rows in own.values())]
    panels = ["time"] + ["memory"] * any(_peak(rows) for rows in own.values())
    figure = new_figure(0.95 + max(0.5, 0.13 * len(own) + 0.12) * len(parts))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    labels, height = short_labels(list(series), 30), min(0.4, 0.8 / len(own))
    for axes, what in zip(grid, panels, strict=True):
        for place, (name, rows) in enumerate(own.items()):
            known = rows.filter(pl.col("component").is_in(parts)).with_columns(
                mib=pl.col("peak_bytes") / _MIB if _peak(rows) else None
            )
            at = [parts.index(part) + (place + 0.5 - len(own) / 2) * height for part in known["component"]]
            column, style = "ms" if what == "time" else "mib", look(list(series).index(name))
            width = np.nan_to_num(values(known, column))
            axes.barh(at, width, height=0.9 * height, color=style.colour, linewidth=0, label=labels[name])
            if what == "time":
                axes.hlines(at, values(known, "low"), values(known, "high"), color=INK, linewidth=1.0)
            note(axes, known, column, at, ["component", "length", column, "low", "high"], panel=what, series=name)
        axes.set_xlabel("time (ms)" if what == "time" else "peak memory (MiB)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    figure.axes[0].set_yticks(range(len(parts)), [_PARTS[name] for name in parts])
    figure.axes[0].set_ylim(len(parts) - 0.5, -0.5)
    if len(own) > 1:
        legend_above(figure, figure.axes)
    return figure


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
