"""Dense and sparse attention of the same head on the same sample, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.colors import Normalize, PowerNorm, TwoSlopeNorm
from matplotlib.figure import Figure

from indexscope.analysis.plots.beside import bar_below
from indexscope.analysis.plots.drawing import Array
from indexscope.analysis.plots.pooled_maps import draw_map, note_map, without_future
from indexscope.analysis.plots.style import colours, new_figure, styled

WORDS = {"most": "loses most", "middle": "median", "least": "loses least", "only": "loses"}
COLUMNS = {"dense": "dense attention", "sparse": "sparse attention", "difference": "sparse less dense"}


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
    figure = new_figure(2.3 * examples.height + 0.5)
    if title:
        figure.suptitle(title, fontsize=10.5, fontweight="bold")
    grid = figure.subplots(examples.height, len(COLUMNS), squeeze=False)
    rows = {
        row["example"]: maps.filter(pl.col("example") == row["example"]).sort("query") for row in examples.to_dicts()
    }
    cells = {example: _cells(own, causal) for example, own in rows.items()}
    most = max(float(np.nanmax(np.abs(own["difference"]))) for own in cells.values()) or 1.0
    norms: dict[str, Normalize] = {"dense": PowerNorm(0.5, 0, 1), "sparse": PowerNorm(0.5, 0, 1)}
    norms["difference"] = TwoSlopeNorm(0, -most, most)
    images = {}
    for place, row in enumerate(examples.iter_rows(named=True)):
        example, own = row["example"], rows[row["example"]]
        queries, length = own["query"].to_numpy(), own["length"][0]
        named = {key: row[key] for key in ("example", "sample", "layer", "head")}
        for axes, (name, heading) in zip(grid[place], COLUMNS.items(), strict=True):
            shown = cells[example][name]
            cmap = colours("RdBu_r" if name == "difference" else "magma_r")
            images[name] = draw_map(axes, shown, queries, cmap, norms[name])
            axes.set_xticks([-0.5, shown.shape[1] - 0.5], ["0", str(length)])
            axes.set_title(heading if place == 0 else "", fontsize=9)
            note_map(axes, shown, queries, length, named, f"{WORDS[example]}, {heading}")
        grid[place][0].set_ylabel(
            f"{WORDS[row['example']]}: {row['lost']:.1%}\n{_called(row)}\nsample {row['sample']}, query",
            fontsize=8,
        )
    for axes in grid[-1]:
        axes.set_xlabel("key position, tokens")
    for name, first, wide in (("sparse", 0, 2.1), ("difference", 2, 1.0)):
        bar = bar_below(grid[-1][first], images[name], wide)
        bar.set_label("attention of a part" if name == "sparse" else "difference")
        bar.outline.set_visible(False)
    return figure


def _called(row: dict[str, Any]) -> str:
    layer = "" if row["layer"] is None else f"layer {row['layer']} "
    return f"{layer}head {row['head']}"


def _cells(rows: pl.DataFrame, causal: bool) -> dict[str, Array]:
    """Values of an example's panels, [queries, parts]; NaN in the future of causal maps."""
    dense, sparse = (rows[name].to_numpy().astype(np.float64) for name in ("dense", "sparse"))
    found = {"dense": dense, "sparse": sparse, "difference": sparse - dense}
    if not causal:
        return found
    queries, length = rows["query"].to_numpy(), rows["length"][0]
    return {name: without_future(values, queries, length) for name, values in found.items()}
