"""Which attention patterns make up each layer."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    new_figure,
    styled,
)

# A kind looks the same in every figure. Colour and hatch: with more than seven kinds, colour alone would not tell
# them apart. Lines only: a hatch of dots takes hundreds of curves in the file.
_FILLS = {
    "sink": (VERMILLION, "---"),
    "previous-token": (BLUE, ""),
    "self": (ORANGE, "///"),
    "local": (SKY, ""),
    "vertical": (GREEN, ""),
    "slash": (MUTED, "|||"),
    "block": ("#b98a5e", "++"),
    "induction": (PURPLE, "xxx"),
    "uniform": (YELLOW, ""),
    "global": ("white", "\\" * 3),
    "mixed": ("#c7ccd1", ""),
}
_OTHERS = ((INK, ""), ("#8c6bb1", "..."), ("#a6d854", "oo"))


@styled
def pattern_types_by_layer(pattern_types: pl.DataFrame) -> Figure | None:
    """Stacked shares of the pattern types, one column per layer.

    Args:
        pattern_types: Columns layer, pattern_type, share, count.

    Returns:
        The figure, or None where no layer has a type.
    """
    rows = pattern_types.filter(pl.col("layer").is_not_null() & (pl.col("count") > 0))
    if rows.is_empty():
        return None
    figure = new_figure(3.1)
    axes = figure.subplots()
    stack_types(axes, rows, "layer")
    axes.set_xlabel(f"layer (n = {int(rows['count'].sum()):,} rows of sample and head)")
    axes.set_ylabel("% of rows")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure


def stack_types(axes: Axes, rows: pl.DataFrame, by: str) -> None:
    """Draw a column a layer, or whatever else the rows are by, with the types' shares stacked.

    Args:
        axes: The panel.
        rows: The column that they are by (whole numbers), pattern_type, share.
        by: Name of that column.
    """
    present = set(rows["pattern_type"].to_list())
    others = sorted(present - set(_FILLS))
    fills = {kind: fill for kind, fill in _FILLS.items() if kind in present}
    fills |= {kind: _OTHERS[index % len(_OTHERS)] for index, kind in enumerate(others)}
    places = sorted(rows[by].unique().to_list())
    share = {(place, kind): value for place, kind, value in rows.select(by, "pattern_type", "share").iter_rows()}
    base = np.zeros(len(places))
    thin = len(places) > 30
    for kind, (colour, hatch) in fills.items():
        height = np.array([share.get((place, kind), 0.0) or 0.0 for place in places]) * 100
        axes.bar(
            range(len(places)),
            height,
            bottom=base,
            width=0.9 if thin else 0.78,
            color=colour,
            hatch=hatch,
            edgecolor=INK,
            linewidth=0.2 if thin else 0.5,
            label=str(kind),
        )
        stack = pl.DataFrame({by: places, "share": height / 100})
        note(axes, stack, np.arange(len(places)), base + height / 2, [by, "share"], series=str(kind))
        base += height
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: str(places[int(value)]) if value in range(len(places)) else "")
    )
    axes.grid(axis="x", visible=False)
