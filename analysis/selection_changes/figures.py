"""What a candidate's selection has in common with the baseline's, and what it drops and adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from indexscope.analysis.plots.beside import legend_below
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import Array, by_layer, largest, values
from indexscope.analysis.plots.lifts import log_two, positive
from indexscope.analysis.plots.lines import banded, layers_across, percents
from indexscope.analysis.plots.style import INK, Look, legend_above, look, new_figure, short_labels, styled
from indexscope.analysis.plots.where import Shade, maps

_FEW = 24
"""Markers are drawn on lines of at most so many points."""


class _Line(NamedTuple):
    metric: str
    label: str
    look: int


_SHARED = (
    _Line("selection_kept", "baseline's keys kept", 0),
    _Line("selection_overlap_with_baseline", "overlap (Jaccard)", 1),
    _Line("selection_overlap_by_chance", "overlap by chance", 3),
)
_LOST = (
    _Line("selection_mass_dropped", "on dropped keys", 0),
    _Line("selection_mass_added", "on added keys", 1),
    _Line("selection_mass_lost", "lost (the difference)", 2),
)


_PANELS = (
    ("selection_kept", "keys of the baseline kept"),
    ("selection_mass_dropped", "attention on dropped keys"),
    ("selection_mass_added", "attention on added keys"),
)


@styled
def changes_by_layer(choices: Mapping[str, pl.DataFrame], looks: Mapping[str, Look]) -> Figure | None:
    """What the candidates keep of the baseline's selection by layer, and its attention on what they drop and add.

    Args:
        choices: The frame ``metrics`` of the candidates by name.
        looks: The candidates to draw, in order, with their looks.

    Returns:
        The figure, or None where no layer was compared. Without samples of the close-up it is of keys alone.
    """
    found = {
        metric: {name: own for name in looks if name in choices and (own := by_layer(choices[name], metric))}
        for metric, _ in _PANELS
    }
    panels = [(metric, title) for metric, title in _PANELS if found[metric]]
    if not panels:
        return None
    figure, labels = new_figure(3.1), short_labels(list(looks))
    grid = figure.subplots(1, len(panels), squeeze=False).flat
    for axes, (metric, title) in zip(grid, panels, strict=True):
        for name, own in found[metric].items():
            banded(axes, own.layer, own.value, own.low, own.high, looks[name], labels[name])
            note(axes, own.rows, "layer", "value", panel=title, series=name, unit="share")
        axes.set_title(title)
        layers_across(axes)
        percents(axes.yaxis)
    moved = [axes for axes, (metric, _) in zip(figure.axes, panels, strict=True) if metric != "selection_kept"]
    top = max((axes.get_ylim()[1] for axes in moved), default=0.0)
    for axes in moved:  # the two are there to be held against each other
        axes.set_ylim(0, top)
    figure.axes[0].set_ylim(top=min(1.02, figure.axes[0].get_ylim()[1]))
    legend_above(figure, figure.axes)
    return figure


@styled
def overlap_by_layer(choices: pl.DataFrame) -> Figure | None:
    """Overlap with the baseline's selection by layer, and the attention that goes with the difference.

    Args:
        choices: One candidate's frame ``choices``.

    Returns:
        The figure, or None where no layer was compared. Without samples of the close-up the second panel is left out.
    """
    panels = [
        (title, label, lines)
        for title, label, lines in (
            ("Selection shared with the baseline", "share of keys", _SHARED),
            ("Baseline's attention that moves with it", "share of a query's attention", _LOST),
        )
        if by_layer(choices, lines[0].metric) is not None
    ]
    if not panels:
        return None
    figure = new_figure(3.4)
    for axes, (title, label, lines) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        n = 0
        for line in lines:
            series = by_layer(choices, line.metric)
            if series is None:
                continue
            style, n = look(line.look), max(n, series.n)
            axes.fill_between(series.layer, series.low, series.high, color=style.colour, alpha=0.18, linewidth=0)
            note(axes, series.rows, "layer", "value", panel=title, series=line.label, unit="share")
            marker = style.marker if len(series.layer) <= _FEW else ""
            axes.plot(
                series.layer, series.value, color=style.colour, marker=marker, linestyle=style.line, label=line.label
            )
        axes.set_title(title)
        axes.set_xlabel(f"layer (n = {n} samples)")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        legend_below(axes, 2)
    figure.axes[0].set_ylim(0, 1.02)
    return figure


@styled
def overlap_map(where: pl.DataFrame) -> Figure | None:
    """Overlap, and attention lost, by layer and query position.

    Args:
        where: One candidate's frame ``selection_changes_where``.

    Returns:
        The figure, or None where no layer was compared.
    """
    rows = where.filter(pl.col("layer").is_not_null() & pl.col("overlap").is_not_null())
    if rows.is_empty():
        return None
    shades = [Shade("overlap", "overlap (Jaccard)", "viridis", 0.0, 1.0)]
    if rows["mass_lost"].count():
        shades.append(Shade("mass_lost", "attention lost", "PuOr_r"))
    return maps(rows, shades)


@styled
def dropped_and_added(by: pl.DataFrame) -> Figure | None:
    """How often keys are dropped and added relative to chance, and with how much attention: by distance and by kind.

    Args:
        by: One candidate's frame ``selection_changes_by``.

    Returns:
        The figure, or None where nothing was dropped or added, or no key is a token.
    """
    rows = by.filter(pl.col("layer").is_null() & pl.col("axis").is_in(["distance", "kind"]))
    if rows.is_empty() or rows.filter((pl.col("dropped") > 0) | (pl.col("added") > 0)).is_empty():
        return None
    distance, kind = (rows.filter(pl.col("axis") == axis).sort("bin") for axis in ("distance", "kind"))
    weighed = bool(rows["mass_dropped"].count())
    shown = [(frame, title) for frame, title in ((distance, "distance"), (kind, "kind")) if frame.height]
    heights = [3.0 if title == "distance" else 0.9 + 0.3 * frame.height for frame, title in shown]
    figure = new_figure(0.5 + sum(heights))
    grid = figure.subplots(len(shown), 1 + weighed, squeeze=False, height_ratios=heights)
    for line, (frame, title) in zip(grid, shown, strict=True):
        along = title == "distance"
        for index, name in enumerate(("dropped", "added")):
            middle = np.arange(frame.height, dtype=np.float64)
            place = middle + (index - 0.5) * (0.0 if along else 0.28)
            _lift(line[0], frame, place, name, index, along)
            lift = frame.with_columns(
                lift=f"{name}_lift", ci_low=f"{name}_ci_low", ci_high=f"{name}_ci_high", selections=name
            )
            x, y = ("lift", place)[::-1] if along else ("lift", place)
            note(line[0], lift, x, y, ["label", "lift", "selections"], panel=f"lift by {title}", series=name)
            if weighed:
                _bars(line[1], middle + (index - 0.5) * 0.36, values(frame, f"mass_{name}"), index, along)
                spots = (middle + (index - 0.5) * 0.36, values(frame, f"mass_{name}"))
                told = ["label", f"mass_{name}"]
                x, y = spots if along else reversed(spots)
                note(line[1], frame, x, y, told, panel=f"attention by {title}", series=name)
        for axes in line:
            _labels(axes, [str(label) for label in frame["label"]], along)
        _log(line[0], along)
        if weighed:
            _share(line[1], along)
        n = f"n = {largest(frame, 'n')} samples"
        (line[0].set_xlabel if along else line[0].set_ylabel)(f"distance (tokens), {n}" if along else "")
        (line[0].set_ylabel if along else line[0].set_xlabel)("lift over chance" if along else f"lift over chance, {n}")
        if weighed:
            (line[1].set_xlabel if along else line[1].set_ylabel)("distance (tokens)" if along else "")
            (line[1].set_ylabel if along else line[1].set_xlabel)("baseline's attention")
    grid[0, 0].set_title("How often, relative to chance")
    if weighed:
        grid[0, 1].set_title("With how much of a query's attention")
    legend_above(figure, [grid[0, 0]])
    return figure


def _lift(axes: Axes, rows: pl.DataFrame, place: Array, name: str, index: int, along: bool) -> None:
    style = look(index)
    value, low, high = (positive(values(rows, f"{name}_{part}")) for part in ("lift", "ci_low", "ci_high"))
    if along:
        axes.fill_between(place, low, high, color=style.colour, alpha=0.18, linewidth=0)
        axes.plot(place, value, color=style.colour, marker=style.marker, linestyle=style.line, label=name)
        return
    for y, start, end in zip(place, low, high, strict=True):
        if np.isfinite(start + end):
            axes.plot([start, end], [y, y], color=style.colour, linewidth=1.4)
    axes.plot(value, place, color=style.colour, marker=style.marker, linestyle="", label=name)


def _bars(axes: Axes, place: Array, height: Array, index: int, along: bool) -> None:
    style = look(index)
    hatch = "" if index == 0 else "////"
    if along:
        axes.bar(place, height, width=0.36, color=style.colour, hatch=hatch, edgecolor="white", linewidth=0)
    else:
        axes.barh(place, height, height=0.36, color=style.colour, hatch=hatch, edgecolor="white", linewidth=0)


def _labels(axes: Axes, texts: list[str], along: bool) -> None:
    if along:
        axes.set_xticks(range(len(texts)), texts, rotation=38, ha="right", rotation_mode="anchor")
    else:
        axes.set_yticks(range(len(texts)), texts)
        axes.invert_yaxis()


def _log(axes: Axes, along: bool) -> None:
    (axes.axhline if along else axes.axvline)(1, color=INK, linewidth=0.9)
    log_two(axes, "y" if along else "x")


def _share(axes: Axes, along: bool) -> None:
    axis = axes.yaxis if along else axes.xaxis
    axis.set_major_locator(MaxNLocator(nbins=5))
    axis.set_major_formatter(PercentFormatter(1.0))
