"""What each cluster of attention heads has in common: its centroid, feature by feature, and its size."""

from __future__ import annotations

from textwrap import wrap

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.style import INK, SKY, new_figure, short_labels, styled

_DESCRIPTION = ("cluster", "name", "size", "share", "ci_low", "ci_high", "n")
_REACH = 2.5


@styled
def cluster_map(clusters: pl.DataFrame) -> Figure | None:
    """Clusters' shares with their intervals above the centroids in standard deviations (features down).

    Args:
        clusters: Columns cluster, name, size, share, ci_low, ci_high, n (samples) and one per feature of the scaled
            centroid.

    Returns:
        The figure, or None where there is no cluster.
    """
    features = [name for name in clusters.columns if name not in _DESCRIPTION and clusters[name].dtype.is_numeric()]
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
    note(bars, rows, np.arange(count), shares * 100, ["cluster", "name", "size", "share"], panel="share of rows")
    bars.set_ylim(0, max(float(np.nanmax(high)) * 130, 1))
    bars.set_ylabel("% of rows")
    bars.grid(axis="x", visible=False)
    picture = axes.imshow(cells, cmap="PuOr_r", vmin=-_REACH, vmax=_REACH, aspect="auto", interpolation="none")
    for row, column in np.ndindex(*cells.shape):
        value = float(cells[row, column])
        if np.isfinite(value):
            red, green, blue, _ = picture.cmap(picture.norm(value))
            colour = "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 else INK
            text = f"{value:+.1f}".replace("-", "−") if abs(value) >= 0.05 else "0.0"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    long = rows.unpivot(features, index=["cluster", "name"], variable_name="feature", value_name="standard_deviations")
    down = np.repeat(np.arange(len(features)), count)
    across = np.tile(np.arange(count), len(features))
    told = ["cluster", "name", "feature", "standard_deviations"]
    note(axes, long, across, down, told, panel="centroid")
    axes.grid(visible=False)
    axes.set_yticks(range(len(features)), features)
    keys = [f"{cluster}: {name}" for cluster, name in zip(rows["cluster"], rows["name"], strict=True)]
    labels = short_labels(keys, 56)
    width = max(9, 88 // count)
    axes.set_xticks(range(count), ["\n".join(wrap(labels[key], width, max_lines=4, placeholder="…")) for key in keys])
    bar = figure.colorbar(picture, ax=axes, extend="both", pad=0.01)
    bar.set_label("centroid (standard deviations)")
    return figure
