"""One small attention map in a panel: sampled queries downward, equal parts of the sequence to the right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from indexscope.analysis.plots.drawing import Array, note
from indexscope.analysis.plots.style import GRID


def without_future(cells: Array, queries: NDArray[Any], length: int) -> Array:
    """Values [queries, parts] with NaN in the parts that begin after the query.

    Args:
        cells: A row a query.
        queries: Their positions.
        length: Tokens of the whole sequence.
    """
    part = np.arange(cells.shape[1]) * length / cells.shape[1]
    return np.where(part[None, :] > queries[:, None], np.nan, cells)


def draw_map(axes: Axes, cells: Array, queries: NDArray[Any], cmap: Colormap, norm: Normalize) -> AxesImage:
    """Draw the cells; what is NaN is grey."""
    image = axes.imshow(cells, cmap=cmap, norm=norm, aspect="auto", interpolation="none")
    axes.set_facecolor(GRID)
    axes.grid(visible=False)
    axes.set_yticks([0, len(queries) - 1], [str(queries[0]), str(queries[-1])])
    return image


def note_map(
    axes: Axes, cells: Array, queries: NDArray[Any], length: int, named: Mapping[str, Any], panel: str
) -> None:
    """Keep the rows behind the cells: what is named, query, keys_from (first key of the part), attention."""
    down, across = np.nonzero(np.isfinite(cells))
    shown = pl.DataFrame(
        {
            "query": queries[down],
            "keys_from": -(-across * length // cells.shape[1]),
            "attention": cells[down, across],
        }
    )
    told = shown.with_columns(**{key: pl.lit(value) for key, value in named.items()})
    note(axes, told, across, down, [*named, *shown.columns], panel=panel)
