"""How recall and the cost of sparsity change with the context length."""

from __future__ import annotations

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.context_length.resampled import SKILL
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.style import MUTED, legend_above, look, new_figure, styled

_RECALL = ("selection_recall", "oracle_recall", "random_recall", SKILL)


@styled
def metrics_by_length(lengths: pl.DataFrame, onset_length: int | None = None) -> Figure | None:
    """Recall and skill (left) and sparsity cost (right) at each context length, over all layers, with bands.

    Args:
        lengths: One model's frame ``lengths``; rows of kind "at" are drawn.
        onset_length: Context length from which skill is detectably lower, marked; None: not detected.

    Returns:
        The figure, or None where nothing was selected.
    """
    rows = lengths.filter((pl.col("kind") == "at") & pl.col("layer").is_null() & pl.col("value").is_finite())
    recall = {metric: rows.filter(pl.col("metric") == metric).sort("length") for metric in _RECALL}
    if recall["selection_recall"].is_empty():
        return None
    cost = rows.filter(pl.col("metric") == "sparsity_cost").sort("length")
    figure = new_figure(3.6)
    grid = figure.subplots(1, 2 if cost.height else 1, squeeze=False)
    for index, metric in enumerate(_RECALL):
        _line(grid[0, 0], recall[metric], label(metric), index)
    grid[0, 0].set_ylabel(f"attention held (share), skill (n = {largest(recall['selection_recall'], 'n')} samples)")
    if cost.height:
        grid[0, 1].axhline(0, color=MUTED, linewidth=0.9)
        _line(grid[0, 1], cost, label("sparsity_cost"), len(_RECALL))
        grid[0, 1].set_ylabel(f"{label('sparsity_cost')} (nats, n = {largest(cost, 'n')} samples)")
    for axes in grid.flat:
        if onset_length is not None:
            axes.axvline(onset_length, color=MUTED, linestyle=(0, (2, 2)), label="skill is less from here on")
        axes.set_xlabel("context length (tokens), queries of its last power of two")
    legend_above(figure, grid.flat, columns=3)
    return figure


def _line(axes: Axes, rows: pl.DataFrame, words: str, index: int) -> None:
    if rows.is_empty():
        return
    note(axes, rows, "length", "value", ["unit"], series=words)
    style, x = look(index), values(rows, "length")
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, alpha=0.2, linewidth=0)
    axes.plot(x, values(rows, "value"), color=style.colour, marker=style.marker, linestyle=style.line, label=words)
    axes.set_xscale("log", base=2)
    ticks = [int(length) for length in rows["length"]]
    axes.set_xticks(ticks[-10:], [f"{tick:,}" for tick in ticks[-10:]])
    axes.minorticks_off()
