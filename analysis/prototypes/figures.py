"""Real attention maps, small."""

from __future__ import annotations

import polars as pl
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from indexscope.analysis.plots.pooled_maps import draw_map, note_map, without_future
from indexscope.analysis.plots.style import colours, new_figure, styled

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
    figure = new_figure(2.5 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, row in zip(grid.flat, shown.iter_rows(named=True), strict=False):
        own = maps.filter((pl.col("cluster") == row["cluster"]) & (pl.col("rank") == row["rank"])).sort("query")
        length, queries = own["length"][0], own["query"].to_numpy()
        cells = without_future(own["attention"].to_numpy().astype(float), queries, length)
        draw_map(axes, cells, queries, length, colours("magma_r"), PowerNorm(0.5, 0, 1))
        called = f"{row['cluster']}: layer {row['layer']} head {row['head']}"
        named = {key: row[key] for key in ("cluster", "rank", "sample", "layer", "head")}
        note_map(axes, cells, queries, length, named, called)
        axes.set_title(called, fontsize=8)
        axes.set_xlabel(f"{row['pattern_type']} (sample {row['sample']})", fontsize=7.5)
    for axes in grid.flat[shown.height :]:
        axes.remove()
    for row_of in grid:
        row_of[0].set_ylabel("query (token)")
    return figure
