"""Real attention maps, small."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from analysis.plots.drawing import note
from analysis.plots.style import GRID, colours, new_figure, styled

COLUMNS = 4
AT_MOST = 16


@styled
def prototype_maps(prototypes: pl.DataFrame, maps: pl.DataFrame) -> Figure | None:
    """The nearest maps of each cluster: keys from left to right, queries from top to bottom.

    Args:
        prototypes: cluster, rank, sample, layer, head, pattern_type.
        maps: cluster, rank, length, query, attention.

    Returns:
        The figure, or None where there is no map.
    """
    shown = prototypes.sort("cluster", "rank").head(AT_MOST)
    if shown.is_empty() or maps.is_empty():
        return None
    columns = min(COLUMNS, shown.height)
    rows = -(-shown.height // columns)
    figure = new_figure(2.35 * rows + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, row in zip(grid.flat, shown.iter_rows(named=True), strict=False):
        own = maps.filter((pl.col("cluster") == row["cluster"]) & (pl.col("rank") == row["rank"])).sort("query")
        cells = own["attention"].to_numpy().astype(float)
        length, queries = own["length"][0], own["query"].to_numpy()
        part = np.arange(cells.shape[1]) * length / cells.shape[1]
        cells[part[None, :] > queries[:, None]] = np.nan
        axes.imshow(cells, cmap=colours("magma_r"), norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="none")
        _note(axes, row, own, cells)
        axes.set_facecolor(GRID)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_yticks([0, len(queries) - 1], [str(queries[0]), str(queries[-1])])
        axes.set_title(f"{row['cluster']}: layer {row['layer']} head {row['head']}", fontsize=8)
        axes.set_xlabel(f"{row['pattern_type']}, sample {row['sample']}", fontsize=7.5)
    for axes in grid.flat[shown.height :]:
        axes.remove()
    grid[0, 0].set_ylabel("query")
    return figure


def _note(axes: Axes, prototype: dict[str, Any], rows: pl.DataFrame, cells: np.ndarray[Any, Any]) -> None:
    down, across = np.nonzero(np.isfinite(cells))
    length = rows["length"][0]
    shown = pl.DataFrame(
        {
            "query": rows["query"].to_numpy()[down],
            "keys_from": -(-across * length // cells.shape[1]),
            "attention": cells[down, across],
        }
    )
    named = {key: prototype[key] for key in ("cluster", "rank", "sample", "layer", "head")}
    panel = f"{prototype['cluster']}: layer {prototype['layer']} head {prototype['head']}"
    note(
        axes,
        shown.with_columns(**{key: pl.lit(value) for key, value in named.items()}),
        across,
        down,
        [*named, *shown.columns],
        panel=panel,
    )
