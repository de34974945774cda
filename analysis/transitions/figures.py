"""How attention maps move between the clusters of the baseline and those of a candidate."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.style import INK, new_figure, short_labels, styled

# Kinds up to which a cell has room for its interval.
_ROOM = 7


@styled
def transition_maps(transitions: pl.DataFrame) -> Figure | None:
    """Share of the maps of each cluster (left) and pattern type (right) of the baseline by what they are now.

    Args:
        transitions: Columns layer, of, before, after, share, ci_low, ci_high, count; rows over all layers (layer null)
            are drawn.

    Returns:
        The figure, or None without such rows.
    """
    rows = transitions.filter(pl.col("layer").is_null())
    kinds = [kind for kind in ("cluster", "type") if rows.filter(pl.col("of") == kind).height]
    if not kinds:
        return None
    names = {kind: _names(rows.filter(pl.col("of") == kind)) for kind in kinds}
    figure = new_figure(1.6 + 0.32 * max(len(found) for found in names.values()))
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False).flat, kinds, strict=True):
        own, labels = rows.filter(pl.col("of") == kind), names[kind]
        cells = np.full((len(labels), len(labels)), np.nan)
        spans: dict[tuple[int, int], str] = {}
        for before, after, share, *ends in own.select("before", "after", "share", "ci_low", "ci_high").iter_rows():
            place = labels.index(before), labels.index(after)
            cells[place] = share
            if None not in ends and len(labels) <= _ROOM:
                spans[place] = "–".join(f"{100 * end:.1f}" for end in ends)
        axes.imshow(cells, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="none")
        across, down = ([labels.index(name) for name in own[side]] for side in ("after", "before"))
        note(axes, own, across, down, ["before", "after", "share", "ci_low", "ci_high", "count"], panel=kind)
        for row, column in np.argwhere(np.isfinite(cells)):
            value = cells[row, column]
            colour = "white" if value > 0.6 else INK
            small = spans.get((int(row), int(column)))
            lines = (
                [(f"{100 * value:.1f}", 7.5, 0.0)]
                if small is None
                else [(f"{100 * value:.1f}", 7.5, 4.0), (small, 5.5, -5.0)]
            )
            for text, size, above in lines:
                axes.annotate(
                    text,
                    (column, row),
                    (0, above),
                    textcoords="offset points",
                    ha="center",
                    va="center",
                    fontsize=size,
                    color=colour,
                )
        short = short_labels(labels, 14)
        axes.set_xticks(range(len(labels)), [short[label] for label in labels], rotation=40, ha="right")
        axes.set_yticks(range(len(labels)), [short[label] for label in labels])
        axes.set_xlabel(f"{'cluster' if kind == 'cluster' else 'pattern type'} now")
        axes.set_ylabel("in the baseline (rows sum to 100 %)")
        axes.grid(visible=False)
    return figure


def _names(rows: pl.DataFrame) -> list[str]:
    found = {*rows["before"].to_list(), *rows["after"].to_list()}
    return sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
