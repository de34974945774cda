"""Where selections fall: lift over what exposure alone would give, by distance and by relative position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.lifts import log_two
from indexscope.analysis.plots.lines import banded_rows
from indexscope.analysis.plots.style import INK, MUTED, colours, legend_above, look, new_figure, short_labels, styled

_AXES = (
    ("distance", "by distance", "distance from query to key (tokens)"),
    ("relative", "by relative position", "position of the key, oldest to newest"),
)
_ATTENTION = ("attention_ci_low", "attention_ci_high")
_LARGEST = 4.0


@styled
def lift_curves(lifts: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """Selection lift with its interval over all layers, one line per model, 1 meaning no bias.

    Args:
        lifts: Model name to its ``lift`` frame (layer, axis, bin, label, lift, ci_low, ci_high, attention_lift, n).
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where nothing was selected. Models without an indexer show the lift of their attention.
    """
    panels = {axis: _overall(lifts, axis) for axis, *_ in _AXES}
    shown = [panel for panel in _AXES if panels[panel[0]]]
    if not shown:
        return None
    figure = new_figure(3.6)
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)
    labels = short_labels(list(models))
    count = max(largest(rows, "n") for axis, *_ in shown for rows in panels[axis].values())
    for axes, (axis, title, along) in zip(grid.flat, shown, strict=True):
        axes.axhline(1, color=INK, linewidth=0.9)
        for name, rows in panels[axis].items():
            _curve(axes, rows, labels[name], list(models).index(name))
        _bins(axes, max(panels[axis].values(), key=lambda rows: rows.height))
        axes.set_title(f"{title} (n = {count} samples)" if axes is grid[0, 0] else title)
        axes.set_xlabel(along)
        axes.tick_params(left=axes is grid[0, 0])
    log_two(grid[0, 0])
    grid[0, 0].set_ylabel("lift (log)")
    legend_above(figure, grid.flat)
    return figure


def _overall(lifts: Mapping[str, pl.DataFrame], axis: str) -> dict[str, pl.DataFrame]:
    found = {}
    for name, lift in lifts.items():
        rows = lift.filter((pl.col("axis") == axis) & pl.col("layer").is_null()).sort("bin")
        if rows["lift"].count() or rows["attention_lift"].count():
            found[name] = rows
    return found


def _curve(axes: Axes, rows: pl.DataFrame, label: str, index: int) -> None:
    selects = rows["lift"].count() > 0
    column, ends = ("lift", ("ci_low", "ci_high")) if selects else ("attention_lift", _ATTENTION)
    words = label if selects else f"{label} (attention)"
    banded_rows(axes, rows, "bin", column, look(index), words, ends, log=True)
    told = rows.select("axis", "bin", "label", "selections", "n", column, ci_low=ends[0], ci_high=ends[1])
    note(axes, told, "bin", column, ["label", "selections"], panel=str(rows["axis"][0]), series=words)


def _bins(axes: Axes, rows: pl.DataFrame) -> None:
    texts = [str(label) for label in rows["label"]]
    turned = len(texts) > 6
    axes.set_xticks(
        values(rows, "bin"),
        texts,
        rotation=38 if turned else 0,
        ha="right" if turned else "center",
        rotation_mode="anchor",
    )


@styled
def lift_map(lift: pl.DataFrame) -> Figure | None:
    """Selection lift by layer and distance as a map: purple is fewer, green is more selections than expected.

    Args:
        lift: One model's ``lift`` frame.

    Returns:
        The figure, or None where no layer has a lift by distance.
    """
    rows = lift.filter((pl.col("axis") == "distance") & pl.col("layer").is_not_null() & pl.col("lift").is_finite())
    if rows.is_empty():
        return None
    layers = sorted(rows["layer"].unique().to_list())
    bins = rows.sort("bin").select("bin", "label").unique(subset="bin", keep="first", maintain_order=True)
    places = {value: place for place, value in enumerate(bins["bin"])}
    cells = np.full((len(places), len(layers)), np.nan)
    for layer, position, value in rows.select("layer", "bin", "lift").iter_rows():
        cells[places[position], layers.index(layer)] = np.log2(value) if value > 0 else -np.inf
    figure = new_figure(max(2.4, 0.9 + 0.2 * len(places)))
    axes = figure.subplots()
    picture = axes.imshow(
        np.clip(cells, -_LARGEST, _LARGEST),
        cmap=colours("PRGn"),
        vmin=-_LARGEST,
        vmax=_LARGEST,
        aspect="auto",
        interpolation="none",
        origin="lower",
        extent=(-0.5, len(layers) - 0.5, -0.5, len(places) - 0.5),
    )
    down = [places[position] for position in rows["bin"]]
    across = [layers.index(layer) for layer in rows["layer"]]
    told = rows.rename({"label": "distance"})
    note(axes, told, across, down, ["layer", "distance", "lift"])
    axes.set_facecolor(MUTED)
    axes.grid(visible=False)
    axes.set_yticks(range(len(places)), [str(label) for label in bins["label"]])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: str(layers[int(value)]) if 0 <= value < len(layers) else "")
    )
    axes.set_xlabel("layer")
    axes.set_ylabel("distance (tokens)")
    bar = bar_beside(axes, picture, extend="both")
    bar.set_label("lift (1 = as expected)")
    bar.set_ticks([-4, -2, 0, 2, 4], labels=["1/16", "1/4", "1", "4", "16"])
    return figure
