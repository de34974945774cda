"""What could be taken away from models, and what recall that costs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.lines import banded, percents, ring
from indexscope.analysis.plots.style import INK, Look, legend_above, new_figure, short_labels, styled

_KINDS = {
    "indexer heads": "fewer indexer heads",
    "layer_sharing": "layers that share a selection",
    "key_budget": "smaller k",
}
_HIGHEST = 0.1
"""Loss of recall that the axis goes up to: what costs more is out of the question."""


@styled
def taken_away(options: Mapping[str, pl.DataFrame], looks: Mapping[str, Look]) -> Figure | None:
    """Loss of recall against the share of operations saved, a panel each kind of change, recommended ones ringed.

    Args:
        options: The frame ``recommendation_options`` of the recommendations by model.
        looks: The models to draw, in order, with their looks.

    Returns:
        The figure, or None where nothing could be taken away.
    """
    saved = pl.coalesce("saving", "saving_at_64k")
    rows = {
        name: options[name].filter(pl.col("expected_loss").is_finite()).with_columns(saved=saved).drop_nulls("saved")
        for name in looks
        if name in options
    }
    panels = [kind for kind in _KINDS if any(kind in own["kind"] for own in rows.values())]
    if not panels:
        return None
    figure, labels = new_figure(3.2), short_labels(list(looks))
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True).flat
    for axes, kind in zip(grid, panels, strict=True):
        axes.set_title(_KINDS[kind])
        for name, own in rows.items():
            line = own.filter(pl.col("kind") == kind).sort("saved", "expected_loss")
            _line(axes, line, looks[name], labels[name], name)
        axes.axhline(0, color=INK, linewidth=0.9)
        axes.set_xlabel("operations saved")
        within = [own.filter((pl.col("kind") == kind) & (pl.col("expected_loss") <= _HIGHEST)) for own in rows.values()]
        far = float(np.concatenate([[0.0], *(values(own, "saved") for own in within)]).max())
        axes.set_xlim(0, 1.15 * far or None)
        percents(axes.xaxis)
    losses = np.concatenate([values(own, "expected_loss") for own in rows.values()])
    top = min(_HIGHEST, max(0.012, 1.1 * float(losses.max())))
    figure.axes[0].set_ylim(min(-0.004, 1.1 * float(losses.min())), top)
    figure.axes[0].set_ylabel("recall lost (share)")
    legend_above(figure, figure.axes)
    return figure


def _line(axes: Axes, rows: pl.DataFrame, style: Look, label: str, name: str) -> None:
    if rows.is_empty():
        return
    x, y = (np.concatenate([[0.0], values(rows, column)]) for column in ("saved", "expected_loss"))
    low, high = (np.concatenate([[0.0], values(rows, column)]) for column in ("ci_low", "ci_high"))
    banded(axes, x, y, low, high, style, label)
    told = ["change", "saving", "saving_at_64k", "recommended"]
    note(axes, rows, "saved", "expected_loss", told, panel=axes.get_title(loc="left"), series=name)
    for chosen in rows.filter("recommended").iter_rows(named=True):
        ring(axes, chosen["saved"], chosen["expected_loss"], style)
