"""How an attention layer's patterns change with the length of the sequence, or in training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.clustering.figures import stack_types
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.beside import legend_below
from indexscope.analysis.plots.drawing import Array, few_columns, note
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.style import INK, look, new_figure, styled

#: What the columns that evolution goes by are called on an axis.
AXES = {"length": "length (tokens)", "step": "training step"}
#: A largest step so many times the smallest is drawn in powers.
_POWERS = 64
_SHARES = ("normalized_entropy", "sparsity_ratio", "local_mass", "sink_mass", "max_weight")


@styled
def pattern_evolution(numbers: pl.DataFrame, types: pl.DataFrame, title: str, by: str = "length") -> Figure:
    """Entropy, shares and pattern types against the length of the sequence or the training step.

    Args:
        numbers: The column of by, samples, entropy (nats), uniform (entropy of uniform attention) and the shares.
        types: The column of by, pattern_type, share, count; may be empty, and its panel is then left out.
        title: Of the figure.
        by: One of `AXES`.
    """
    rows = numbers.sort(by)
    wide = types.height > 0
    figure = new_figure(3.9)
    figure.suptitle(title, fontsize=10.5, fontweight="bold")
    panels: Sequence[Axes] = figure.subplots(1, 3 if wide else 2)
    left, middle = panels[0], panels[1]
    x = values(rows, by)
    style = look(0)
    left.plot(x, values(rows, "entropy"), color=style.colour, marker=style.marker, label="attention")
    left.plot(x, values(rows, "uniform"), color=INK, linestyle=(0, (2, 2)), linewidth=1.2, marker=".", label="uniform")
    note(left, rows, by, "entropy", ["samples", "uniform"], panel="entropy")
    left.set_ylabel("entropy (nats)")
    left.set_ylim(bottom=0)
    for index, name in enumerate(_SHARES):
        style, words = look(index), label(name)
        middle.plot(x, values(rows, name), color=style.colour, marker=style.marker, linestyle=style.line, label=words)
        note(middle, rows, by, name, ["samples"], panel="shares", series=words)
    middle.set_ylim(0, 1.02)
    middle.set_ylabel("share")
    for axes in (left, middle):
        _scale(axes, x, by)
    if wide:
        stack_types(panels[2], types.with_columns(pl.col(by).cast(pl.Int64)), by)
        few_columns(panels[2], types[by].n_unique(), 4)
        panels[2].set_ylabel("% of maps")
    for axes in panels:
        axes.set_xlabel(AXES[by])
        legend_below(axes, 1 + (axes is not left), middle=True, fontsize=8)
    return figure


def _scale(axes: Axes, x: Array, by: str) -> None:
    """Powers for lengths, and for steps that need them; a step of 0 has a place on both."""
    least = float(x[x > 0].min()) if (x > 0).any() else 1.0
    if by == "length":
        axes.set_xscale("log", base=2)
    elif x.max() > _POWERS * least:
        axes.set_xscale("symlog", linthresh=least)
        axes.set_xlim(-least / 4 if x.min() == 0 else least / 2, 2 * x.max())
    ticks = [int(place) for place in x][-7:]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    if np.ptp(x) == 0:
        axes.set_xlim(x[0] / 2, x[0] * 2 or 1)
