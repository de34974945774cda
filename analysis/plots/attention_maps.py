"""Dense and sparse attention of the same head on the same sample, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm, TwoSlopeNorm
from matplotlib.figure import Figure

from indexscope.analysis.plots.beside import bar_below
from indexscope.analysis.plots.drawing import Array
from indexscope.analysis.plots.pooled_maps import draw_map, note_map, without_future
from indexscope.analysis.plots.style import colours, new_figure, styled

WORDS = {"most": "worst head", "middle": "median head", "least": "best head", "only": "this head"}
COLUMNS = {"dense": "dense", "sparse": "sparse", "difference": "sparse less dense"}

_STRONG = 0.99
"""Quantile of the cells that has the strongest colour."""


class Example(NamedTuple):
    """A map with and without a selection.

    Attributes:
        label: What the row of panels is called.
        row: sample, layer (null where it is not known), head and lost, the share of the attention that is left out.
        maps: A row a sampled query: length, query, dense, sparse.
    """

    label: str
    row: Mapping[str, Any]
    maps: pl.DataFrame


@styled
def sparse_against_dense(
    examples: pl.DataFrame, maps: pl.DataFrame, title: str = "", causal: bool = True
) -> Figure | None:
    """A row an example, its dense and sparse attention and their difference; keys run right, queries down.

    Args:
        examples: example, sample, layer (null where it is not known), head, lost.
        maps: example, length, query, dense, sparse.
        title: Of the figure.
        causal: Whether the future is blank.

    Returns:
        The figure, or None where there is no example.
    """
    if examples.is_empty() or maps.is_empty():
        return None
    rows = [
        Example(WORDS[row["example"]], row, maps.filter(pl.col("example") == row["example"]))
        for row in examples.iter_rows(named=True)
    ]
    return _panels(rows, title, causal)


@styled
def left_out(examples: Sequence[Example]) -> Figure | None:
    """The same of maps of several models, a row each.

    Args:
        examples: With the models' names as labels.

    Returns:
        The figure, or None without examples.
    """
    return _panels(examples, "", True) if examples else None


def _panels(examples: Sequence[Example], title: str, causal: bool) -> Figure:
    figure = new_figure(3.05 * len(examples) + 0.65)
    if title:
        figure.suptitle(title, fontsize=10.5, fontweight="bold")
    grid = figure.subplots(len(examples), len(COLUMNS), squeeze=False)
    cells = [_cells(example.maps.sort("query"), causal) for example in examples]
    # The first queries have few keys to share their attention: a scale up to their weights would show nothing else.
    strongest = max(float(np.nanquantile([own["dense"], own["sparse"]], _STRONG)) for own in cells) or 1.0
    most = max(float(np.nanquantile(np.abs(own["difference"]), _STRONG)) for own in cells) or 1.0
    norms: dict[str, Normalize] = {name: PowerNorm(0.5, 0, strongest) for name in ("dense", "sparse")}
    norms["difference"] = TwoSlopeNorm(0, -most, most)
    images = {}
    for place, (example, values) in enumerate(zip(examples, cells, strict=True)):
        panels = grid[place]
        own, row = example.maps.sort("query"), example.row
        queries, length = own["query"].to_numpy(), int(own["length"][0])
        named = {key: row[key] for key in ("example", "sample", "layer", "head")}
        for axes, (name, heading) in zip(panels, COLUMNS.items(), strict=True):
            cmap = colours("RdBu_r" if name == "difference" else "magma_r")
            images[name] = draw_map(axes, values[name], queries, length, cmap, norms[name])
            lost = f": {row['lost']:.1%} left out".replace("%", "\u202f%") if name == "sparse" else ""
            axes.set_title(heading + lost, fontsize=9)
            _ticks_outside(axes, axes is panels[0], place == len(examples) - 1)
            note_map(axes, values[name], queries, length, named, f"{example.label}, {heading}")
        panels[0].set_ylabel(f"{example.label}: {_called(row)}\nquery position (tokens)")
    for axes in grid[-1]:
        axes.set_xlabel("key position (tokens)")
    for name, first, wide in (("sparse", 0, 2.1), ("difference", 2, 1.0)):
        bar = bar_below(grid[-1][first], images[name], wide, extend="max" if name == "sparse" else "both")
        bar.set_label("attention of a part (root scale)" if name == "sparse" else "difference")
        bar.outline.set_visible(False)
    return figure


def _ticks_outside(axes: Axes, left: bool, bottom: bool) -> None:
    """Inner panels have the axes of the outer ones."""
    axes.tick_params(left=left, labelleft=left, bottom=bottom, labelbottom=bottom)


def _called(row: Mapping[str, Any]) -> str:
    layer = "" if row["layer"] is None else f"layer {row['layer']}, "
    return f"{layer}head {row['head']}"


def _cells(rows: pl.DataFrame, causal: bool) -> dict[str, Array]:
    """Values of an example's panels, [queries, parts]; NaN in the future of causal maps."""
    dense, sparse = (rows[name].to_numpy().astype(np.float64) for name in ("dense", "sparse"))
    found = {"dense": dense, "sparse": sparse, "difference": sparse - dense}
    if not causal:
        return found
    queries, length = rows["query"].to_numpy(), rows["length"][0]
    return {name: without_future(values, queries, length) for name, values in found.items()}
