"""What each cluster of attention heads has in common, and which pattern types make up each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FixedLocator, FuncFormatter

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.beside import bar_beside
from indexscope.analysis.plots.drawing import Array, note
from indexscope.analysis.plots.frames import largest
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
    legend_above,
    new_figure,
    short_labels,
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
_DESCRIPTION = ("cluster", "name", "size", "share", "ci_low", "ci_high", "n")
#: Difference of shares that has the strongest colour.
REACH = 0.5


def features_of(clusters: pl.DataFrame) -> list[str]:
    """The columns of a frame of clusters that are means of features."""
    return [name for name in clusters.columns if name not in _DESCRIPTION and clusters[name].dtype.is_numeric()]


@styled
def cluster_map(clusters: pl.DataFrame) -> Figure | None:
    """Clusters' shares with their intervals above the means of their features (features down).

    A cell is coloured by how far the cluster's mean lies from that of all maps.

    Args:
        clusters: Columns cluster, name, size, share, ci_low, ci_high, n (samples) and one per feature, its mean.

    Returns:
        The figure, or None where there is no cluster.
    """
    features = features_of(clusters)
    if clusters.is_empty() or not features:
        return None
    rows = clusters.sort("cluster")
    cells = rows.select(features).cast(pl.Float64).to_numpy().T
    count = rows.height
    figure = new_figure(1.9 + 0.23 * len(features))
    bars, axes = figure.subplots(2, 1, sharex=True, height_ratios=[1.05, 0.23 * len(features)])
    shares = rows["share"].cast(pl.Float64).to_numpy()
    bars.bar(range(count), shares * 100, width=0.62, color=SKY, edgecolor=INK, linewidth=0.6)
    low, high = rows["ci_low"].fill_null(rows["share"]).to_numpy(), rows["ci_high"].fill_null(rows["share"]).to_numpy()
    reach = np.maximum([shares - low, high - shares], 0) * 100
    bars.errorbar(range(count), shares * 100, yerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
    for place, (share, size, top) in enumerate(zip(shares, rows["size"], high, strict=True)):
        text = f"{share:.0%}, n = {size:,}".replace("%", " %")
        bars.annotate(
            text, (place, top * 100), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8
        )
    note(bars, rows, np.arange(count), shares * 100, ["cluster", "name", "size", "share"], panel="share of maps")
    bars.set_ylim(0, max(float(np.nanmax(high)) * 130, 1))
    bars.set_ylabel("share of maps (%)")
    bars.grid(axis="x", visible=False)
    apart = cells - (cells @ shares / shares.sum())[:, None]
    # A feature of larger numbers than shares is coloured by its own largest difference.
    apart = apart / np.maximum(np.abs(apart).max(axis=1, keepdims=True) / REACH, 1.0)
    picture = axes.imshow(apart, cmap="PuOr_r", vmin=-REACH, vmax=REACH, aspect="auto", interpolation="none")
    for row, column in np.ndindex(*cells.shape):
        value = float(cells[row, column])
        if np.isfinite(value):
            red, green, blue, _ = picture.cmap(picture.norm(apart[row, column]))
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
            text = f"{value:.2f}".replace("-", "−") if abs(value) < 10 else f"{value:,.0f}".replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    long = rows.unpivot(features, index=["cluster", "name"], variable_name="feature", value_name="mean")
    down = np.repeat(np.arange(len(features)), count)
    across = np.tile(np.arange(count), len(features))
    told = ["cluster", "name", "feature", "mean"]
    note(axes, long, across, down, told, panel="centroid")
    axes.grid(visible=False)
    axes.set_yticks(range(len(features)), [label(name) for name in features])
    keys = [f"{cluster}: {name}" for cluster, name in zip(rows["cluster"], rows["name"], strict=True)]
    labels = short_labels(keys, 56)
    width = max(9, 88 // count)
    axes.set_xticks(range(count), ["\n".join(wrap(labels[key], width, max_lines=4, placeholder="…")) for key in keys])
    bar = bar_beside(axes, picture, extend="both")
    bar.set_label("cluster's mean less that of all")
    return figure


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
    axes.set_title(f"{int(rows['count'].sum()):,} maps")
    axes.set_xlabel("layer")
    axes.set_ylabel("share of maps (%)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@styled
def pattern_types_of_models(types: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """The same of several models, a panel each, with one legend.

    Args:
        types: Model name to its ``pattern_types`` frame.
        models: Names of at most four, in report order.

    Returns:
        The figure, or None where no layer of any has a type.
    """
    by_layer = {name: types[name].filter(pl.col("layer").is_not_null()) for name in models if name in types}
    shown = {name: rows for name, rows in by_layer.items() if rows["count"].sum() > 0}
    if not shown:
        return None
    columns = len(shown) if len(shown) < 4 else 2
    lines = -(-len(shown) // columns)
    figure = new_figure(2.45 * lines + 0.75)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    labels = short_labels(list(models), 26 if columns < 3 else 18)
    present = {kind for rows in shown.values() for kind in rows.filter(pl.col("count") > 0)["pattern_type"]}
    for axes, (name, rows) in zip(grid.flat, shown.items(), strict=True):
        stack_types(axes, rows.filter(pl.col("pattern_type").is_in(list(present))), "layer", name)
        axes.set_title(f"{labels[name]} (n = {largest(rows, 'n')} samples)")
        axes.set_xlabel("layer")
    for axes in grid[:, 1:].flat:
        axes.tick_params(left=False)
    for axes in grid[:, 0]:
        axes.set_ylabel("share of maps (%)")
    legend_above(figure, grid.flat, columns=-(-len(present) // -(-len(present) // 6)))
    return figure


def stack_types(axes: Axes, rows: pl.DataFrame, by: str, panel: str = "") -> None:
    """Draw a column a layer, or whatever else the rows are by, with the types' shares stacked.

    Args:
        axes: The panel.
        rows: The column that they are by (whole numbers), pattern_type, share.
        by: Name of that column.
        panel: What distinguishes the panel.
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
        shape = _columns(base, height, 0.9 if thin else 0.78)
        shape.set(facecolor=colour, hatch=hatch, edgecolor=INK, linewidth=0.2 if thin else 0.5, label=str(kind))
        axes.add_artist(shape)  # and not as a patch: its limits, which are set below, would take long to find
        stack = pl.DataFrame({by: places, "share": height / 100})
        note(axes, stack, np.arange(len(places)), base + height / 2, [by, "share"], panel=panel, series=str(kind))
        base += height
    axes.set_ylim(0, 100)
    axes.set_xlim(-0.6, len(places) - 0.4)
    axes.xaxis.set_major_locator(FixedLocator(range(len(places)), nbins=16))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: str(places[int(value)]) if value in range(len(places)) else "")
    )
    axes.grid(axis="x", visible=False)


def _columns(base: Array, height: Array, width: float) -> PathPatch:
    """Columns at 0, 1, ... as one shape: hundreds of them would take a second to draw."""
    at = np.flatnonzero(height > 0)
    if not at.size:
        return PathPatch(Path(np.zeros((1, 2))))
    left, right = at - width / 2, at + width / 2
    low, high = base[at], base[at] + height[at]
    corners = np.stack([left, low, right, low, right, high, left, high, left, low], axis=1).reshape(-1, 2)
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    return PathPatch(Path(corners, np.tile(codes, at.size).astype(np.uint8)))
