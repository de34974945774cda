"""Maps by layer and position of the query, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.style import MUTED, colours, new_figure


class Shade(NamedTuple):
    """One map.

    Attributes:
        column: Whose values it shows, as shares.
        label: What its scale is called.
        colours: Name of the colour map.
        low: Least value of the scale; the largest magnitude, negated, where it is None.
        high: Largest value of the scale; the largest magnitude where it is None.
    """

    column: str
    label: str
    colours: str
    low: float | None = None
    high: float | None = None


def maps(rows: pl.DataFrame, shades: Sequence[Shade]) -> Figure:
    """Shares by layer (across) and bucket of the query's position (up).

    Args:
        rows: Columns layer, bucket and those of the maps, a row each cell; null where nothing is known.
        shades: What is shown.
    """
    buckets, layers = (sorted(rows[name].unique().to_list()) for name in ("bucket", "layer"))
    figure = new_figure(max(2.4, 1.2 + 0.24 * len(buckets)))
    grid = figure.subplots(1, len(shades), squeeze=False, sharey=True).flat
    for axes, shade in zip(grid, shades, strict=True):
        known = rows.filter(pl.col(shade.column).is_not_null())
        up = [buckets.index(bucket) for bucket in known["bucket"]]
        across = [layers.index(layer) for layer in known["layer"]]
        cells = np.full((len(buckets), len(layers)), np.nan)
        cells[up, across] = values(known, shade.column)
        reach = max(float(np.nanmax(np.abs(cells))), 1e-3)
        low, high = -reach if shade.low is None else shade.low, reach if shade.high is None else shade.high
        picture = axes.imshow(
            cells, cmap=colours(shade.colours), vmin=low, vmax=high, aspect="auto", interpolation="none", origin="lower"
        )
        position = (2 ** pl.col("bucket").cast(pl.Int64) - 1).alias("position_from")
        note(axes, known.with_columns(position), across, up, ["layer", "position_from", shade.column], shade.label)
        axes.set_facecolor(MUTED)
        axes.grid(visible=False)
        axes.set_yticks(range(len(buckets)), [f"{2**bucket - 1:,}-{2 ** (bucket + 1) - 2:,}" for bucket in buckets])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: str(layers[int(value)]) if 0 <= value < len(layers) else "")
        )
        axes.set_xlabel("layer")
        bar = bar_beside(axes, picture)
        bar.set_label(shade.label)
        bar.formatter = PercentFormatter(1.0, decimals=None if high - low >= 0.1 else 1)
        bar.update_ticks()
    figure.axes[0].set_ylabel("query position (tokens)")
    return figure
