"""Which attention patterns make up each layer."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.plots.style import (
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
    present = set(rows["pattern_type"].to_list())
    others = sorted(present - set(_FILLS))
    fills = {kind: fill for kind, fill in _FILLS.items() if kind in present}
    fills |= {kind: _OTHERS[place % len(_OTHERS)] for place, kind in enumerate(others)}
    layers = sorted(rows["layer"].unique().to_list())
    share = {(layer, kind): value for layer, kind, value in rows.select("layer", "pattern_type", "share").iter_rows()}
    figure = new_figure(3.1)
    axes = figure.subplots()
    base = np.zeros(len(layers))
    thin = len(layers) > 30
    for kind, (colour, hatch) in fills.items():
        height = np.array([share.get((layer, kind), 0.0) or 0.0 for layer in layers]) * 100
        axes.bar(
            range(len(layers)),
            height,
            bottom=base,
            width=0.9 if thin else 0.78,
            color=colour,
            hatch=hatch,
            edgecolor=INK,
            linewidth=0.2 if thin else 0.5,
            label=str(kind),
        )
        base += height
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: str(layers[int(value)]) if 0 <= value < len(layers) else "")
    )
    axes.set_xlabel(f"layer (n = {int(rows['count'].sum()):,} rows of sample and head)")
    axes.set_ylabel("% of rows")
    axes.grid(axis="x", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    return figure
