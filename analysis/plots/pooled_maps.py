"""One small attention map in a panel: queries downward, equal parts of the sequence to the right, both in tokens."""

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


def draw_map(
    axes: Axes, cells: Array, queries: NDArray[Any], length: int, cmap: Colormap, norm: Normalize
) -> AxesImage:
    """Draw the cells as a square with both axes in tokens; each query fills what is nearest to it, NaN is grey."""
    image = axes.imshow(
        _evenly(cells, queries, length),
        cmap=cmap,
        norm=norm,
        aspect="equal",
        interpolation="none",
        extent=(0, length, length, 0),
    )
    axes.set_facecolor(GRID)
    axes.grid(visible=False)
    ticks = [0, length // 2, length]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    return image


def _evenly(cells: Array, queries: NDArray[Any], length: int) -> Array:
    """Rows at even places down the sequence, each of the sampled query nearest to it; NaN far from the first and last.

    Sampled queries lie anywhere: drawn one below the other, the diagonal would be no diagonal.
    """
    at = queries + 0.5
    between = (at[1:] + at[:-1]) / 2
    part = length / cells.shape[1]
    before, after = (at[1] - at[0], at[-1] - at[-2]) if at.size > 1 else (part, part)
    places = (np.arange(2 * cells.shape[1]) + 0.5) * part / 2
    rows = cells[np.searchsorted(between, places)]
    reached = (places >= at[0] - before / 2) & (places <= at[-1] + after / 2)
    return np.where(reached[:, None], rows, np.nan)


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
    note(
        axes, told, (across + 0.5) * length / cells.shape[1], queries[down] + 0.5, [*named, *shown.columns], panel=panel
    )
