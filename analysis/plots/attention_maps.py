"""Dense and sparse attention of the same head on the same sample, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.colors import Normalize, PowerNorm, TwoSlopeNorm
from matplotlib.figure import Figure

from analysis.plots.drawing import Array, note
from analysis.plots.style import GRID, colours, new_figure, styled

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
    cells = {
        row["example"]: _cells(maps.filter(pl.col("example") == row["example"]), causal) for row in examples.to_dicts()
    }
    most = max(float(np.nanmax(np.abs(own["difference"]))) for own in cells.values()) or 1.0
    norms: dict[str, Normalize] = {"dense": PowerNorm(0.5, 0, 1), "sparse": PowerNorm(0.5, 0, 1)}
    norms["difference"] = TwoSlopeNorm(0, -most, most)
    images = {}
    for place, row in enumerate(examples.iter_rows(named=True)):
        own = maps.filter(pl.col("example") == row["example"]).sort("query")
        queries = own["query"].to_numpy()
        for axes, name in zip(grid[place], COLUMNS, strict=True):
            chosen = colours("RdBu_r" if name == "difference" else "magma_r")
            images[name] = axes.imshow(
                cells[row["example"]][name], cmap=chosen, norm=norms[name], aspect="auto", interpolation="none"
            )
            axes.set_facecolor(GRID)
            axes.grid(visible=False)
            axes.set_xticks([-0.5, own["dense"].to_numpy().shape[1] - 0.5], ["0", str(own["length"][0])])
            axes.set_yticks([0, len(queries) - 1], [str(queries[0]), str(queries[-1])])
            axes.set_title(COLUMNS[name] if place == 0 else "", fontsize=9)
            _note(axes, row, own, cells[row["example"]][name], name)
        grid[place][0].set_ylabel(
            f"{WORDS[row['example']]}: {row['lost']:.1%}\n{_called(row)}\nsample {row['sample']}, query",
            fontsize=8,
        )
    for axes in grid[-1]:
        axes.set_xlabel("key position, tokens")
    for name, columns in (("sparse", (0, 1)), ("difference", (2,))):
        bar = figure.colorbar(images[name], ax=[grid[-1][place] for place in columns], location="bottom", aspect=30)
        bar.set_label("attention of a part" if name == "sparse" else "difference")
        bar.outline.set_visible(False)
    return figure


def _called(row: dict[str, Any]) -> str:
    layer = "" if row["layer"] is None else f"layer {row['layer']} "
    return f"{layer}head {row['head']}"


def _cells(rows: pl.DataFrame, causal: bool) -> dict[str, Array]:
    """Values of an example's panels, [queries, parts]; NaN in the future of causal maps."""
    own = rows.sort("query")
    dense, sparse = (own[name].to_numpy().astype(np.float64) for name in ("dense", "sparse"))
    part = np.arange(dense.shape[1]) * own["length"][0] / dense.shape[1]
    future = (part[None, :] > own["query"].to_numpy()[:, None]) & causal
    found = {"dense": dense, "sparse": sparse, "difference": sparse - dense}
    return {name: np.where(future, np.nan, values) for name, values in found.items()}


def _note(axes: Any, example: dict[str, Any], rows: pl.DataFrame, cells: Array, name: str) -> None:
    down, across = np.nonzero(np.isfinite(cells))
    named = {key: example[key] for key in ("example", "sample", "layer", "head")}
    shown = pl.DataFrame(
        {
            "query": rows["query"].to_numpy()[down],
            "keys_from": -(-across * rows["length"][0] // cells.shape[1]),
            "attention": cells[down, across],
        }
    ).with_columns(**{key: pl.lit(value) for key, value in named.items()})
    panel = f"{WORDS[example['example']]}, {COLUMNS[name]}"
    note(axes, shown, across, down, [*named, *shown.columns[:3]], panel=panel)
