"""The maps of depth and length that everyone knows, of selection and of answers, and the keys that would have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from indexscope.analysis.evidence.tables import CELLS
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest
from indexscope.analysis.plots.lines import banded_rows
from indexscope.analysis.plots.style import GRID, INK, colours, legend_above, look, new_figure, short_labels, styled

#: What a row of maps shows, from above; all are shares.
SELECTED, KEPT, EXACT, DENSE = "evidence_selected", "evidence_attention_kept", "answer_exact", "dense_answer_exact"
_ROWS = (SELECTED, KEPT, EXACT)
#: Numbers are written into cells where there are at most so many columns of them.
_WRITTEN = 9
#: Letters that the titles of a row of maps have room for.
_LETTERS = 96


class _Map(NamedTuple):
    """One map: what it is called, and its rows of `evidence_cells`, by length and depth."""

    title: str
    metric: str
    rows: pl.DataFrame


def by_depth(cells: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The cells of a metric by length and depth over all kinds; by depth alone where there is but one length."""
    own = cells.filter((pl.col("metric") == metric) & pl.col("kind").is_null() & pl.col("value").is_not_null())
    both = own.filter(pl.col("length").is_not_null() & pl.col("depth").is_not_null())
    if both.height:
        return both.sort("length", "depth")
    lengths = own["length"].drop_nulls().unique()
    depths = own.filter(pl.col("length").is_null() & pl.col("depth").is_not_null())
    return depths.with_columns(length=pl.lit(lengths[0] if len(lengths) else 0, pl.Int32)).sort("depth")


@styled
def evidence_maps(cells: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """Maps of depth (downward) by length (to the right): evidence selected, attention kept on it, exact answers.

    Args:
        cells: Model name to its frame ``evidence_cells``.
        models: Names in report order. Of the first one that has any, exact answers with every key are a map of their
            own.

    Returns:
        The figure, or None where no sample has evidence at a depth.
    """
    shown = [name for name in models if name in cells]
    labels = short_labels(list(models), max(8, min(22, _LETTERS // (len(shown) + 1))))
    rows = [[_Map(labels[name], metric, by_depth(cells[name], metric)) for name in shown] for metric in _ROWS]
    dense = next((name for name in shown if by_depth(cells[name], DENSE).height), None)
    if dense is not None and not _told(cells, shown, by_depth(cells[dense], DENSE)):
        between = ", " if len(shown) < 4 else ",\n"
        with_every = _Map(f"{labels[dense]}{between}every key", DENSE, by_depth(cells[dense], DENSE))
        for metric, row in zip(_ROWS, rows, strict=True):
            row.insert(0, with_every if metric == EXACT else _Map("", metric, CELLS.empty()))
    return _maps(rows)


def _told(cells: Mapping[str, pl.DataFrame], models: Sequence[str], rows: pl.DataFrame) -> bool:
    """Whether the answers with every key are those of a model that selects nothing, and so have a map already."""
    columns = ("length", "depth", "value")
    dense = (name for name in models if by_depth(cells[name], SELECTED).is_empty())
    return any(by_depth(cells[name], EXACT).select(columns).equals(rows.select(columns)) for name in dense)


@styled
def kind_maps(cells: pl.DataFrame) -> Figure | None:
    """The same maps of one model, a column for each kind of question; None where the data tell no kinds apart."""
    own = cells.filter(pl.col("kind").is_not_null() & pl.col("length").is_not_null() & pl.col("depth").is_not_null())
    kinds = own["kind"].unique(maintain_order=True).to_list()
    return _maps([[_Map(kind.replace("_", " "), metric, _of(own, metric, kind)) for kind in kinds] for metric in _ROWS])


def _of(cells: pl.DataFrame, metric: str, kind: str) -> pl.DataFrame:
    of = (pl.col("metric") == metric) & (pl.col("kind") == kind) & pl.col("value").is_not_null()
    return cells.filter(of).sort("length", "depth")


def _maps(rows: Sequence[Sequence[_Map]]) -> Figure | None:
    """Rows of maps of equal length, whose columns belong together; a map without rows is left out."""
    rows = [row for row in rows if any(one.rows.height for one in row)]
    if not rows:
        return None
    most = len(rows[0])
    every = pl.concat([one.rows.select("length", "depth") for row in rows for one in row])
    lengths, depths = sorted(every["length"].unique()), sorted(every["depth"].unique())
    figure = new_figure(0.6 + 2.5 * len(rows))
    grid = figure.subplots(len(rows), most, squeeze=False)
    for line, row in zip(grid, rows, strict=True):
        drawn = [
            (axes, _map(axes, one, lengths, depths, most))
            for axes, one in zip(line, row, strict=True)
            if one.rows.height
        ]
        for axes, one in zip(line, row, strict=True):
            if one.rows.is_empty():
                axes.remove()
        drawn[0][0].set_ylabel("evidence begins at")
        bar_beside(*drawn[-1], label=f"{label(row[-1].metric)} (share)")
    return figure


def _map(axes: Axes, one: _Map, lengths: Sequence[int], depths: Sequence[float], columns: int) -> AxesImage:
    values = np.full((len(depths), len(lengths)), np.nan)
    across = [lengths.index(length) for length in one.rows["length"]]
    down = [depths.index(depth) for depth in one.rows["depth"]]
    values[down, across] = one.rows["value"].to_numpy()
    picture = axes.imshow(values, cmap=colours("cividis"), vmin=0.0, vmax=1.0, aspect="auto", interpolation="none")
    note(axes, one.rows, across, down, ["length", "depth", "value"], panel=one.title, series=label(one.metric))
    if columns * len(lengths) <= _WRITTEN:
        for x, y, value in zip(across, down, one.rows["value"], strict=True):
            axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5, color=_ink(value))
    axes.set_facecolor(GRID)
    axes.grid(visible=False)
    axes.set_title(
        f"{one.title}" if columns > 3 else f"{one.title} (n = {largest(one.rows, 'n')} a cell)", fontsize=8.5
    )
    axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths], rotation=0 if columns < 5 else 45)
    step = max(1, -(-len(depths) // 5))
    places = range(0, len(depths), step)
    axes.set_yticks(list(places), [f"{100 * depths[place]:.3g}\u202f%" for place in places])
    axes.set_xlabel("length (tokens)")
    return picture


def _ink(value: float) -> str:
    return INK if value > 0.55 else "white"


@styled
def keys_needed(needed: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """Keys that would have kept all evidence, by length, in 50, 90 and 95 per cent of samples and layers.

    Args:
        needed: Model name to its frame ``evidence_keys``.
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where no layer scores single tokens.
    """
    frames = {name: needed[name].filter(pl.col("length").is_not_null()) for name in models if name in needed}
    frames = {name: frame for name, frame in frames.items() if frame.height}
    if not frames:
        return None
    shares = sorted({share for frame in frames.values() for share in frame["share"]})
    labels = short_labels(list(models))
    figure = new_figure(3.3)
    grid = figure.subplots(1, len(shares), squeeze=False)
    for axes, share in zip(grid.flat, shares, strict=True):
        ticks: set[int] = set()
        for name, frame in frames.items():
            own = frame.filter(pl.col("share") == share).sort("length")
            banded_rows(axes, own, "length", "keys", look(list(models).index(name)), labels[name])
            note(axes, own, "length", "keys", ["share"], panel=f"{share:g}", series=name)
            ticks |= set(own["length"])
        axes.set_title(f"in {100 * share:g}\u202f% of samples and layers")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(sorted(ticks), [f"{tick:,}" for tick in sorted(ticks)])
        low, high = axes.get_ylim()
        powers = [2**power for power in range(0, 31) if low <= 2**power <= high]
        axes.set_yticks(powers, [f"{power:,}" for power in powers])
        axes.minorticks_off()
        axes.set_xlabel("length (tokens, log)")
    grid[0, 0].set_ylabel("keys that keep all evidence (log)")
    legend_above(figure, grid.flat)
    return figure
