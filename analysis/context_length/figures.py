"""How recall and the cost of sparsity change with the context length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.context_length.resampled import SKILL
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.lines import banded_rows, ring
from indexscope.analysis.plots.style import MUTED, legend_above, look, new_figure, short_labels, styled

#: Metrics that are drawn at the lengths that a study asks for: the first of these that there are.
HEADS, PANELS = ("selection_recall", SKILL, "sparsity_cost", "relative_cost", "nll", "normalized_entropy"), 4
_RECALL = ("selection_recall", "oracle_recall", "random_recall", SKILL)


@styled
def lengths_of_models(
    lengths: Mapping[str, pl.DataFrame], onsets: Mapping[str, int], models: Sequence[str]
) -> Figure | None:
    """Recall (left) and skill (right) of all models at each context length, over all layers.

    Args:
        lengths: Model name to its frame ``lengths``; rows of kind "at" are drawn.
        onsets: The length from which on skill is detectably lower, where it was detected; it is ringed.
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where nothing was selected.
    """
    at = (pl.col("kind") == "at") & pl.col("layer").is_null() & pl.col("value").is_finite()
    rows = {name: lengths[name].filter(at).sort("length") for name in models if name in lengths}
    shown = [
        metric for metric in ("selection_recall", SKILL) if any(metric in set(own["metric"]) for own in rows.values())
    ]
    if not shown:
        return None
    figure = new_figure(3.5)
    grid = figure.subplots(1, len(shown), squeeze=False)
    labels = short_labels(list(models))
    for axes, metric in zip(grid.flat, shown, strict=True):
        ticks: set[int] = set()
        count = 0
        for name, frame in rows.items():
            own = frame.filter(pl.col("metric") == metric)
            if own.is_empty():
                continue
            style = look(list(models).index(name))
            banded_rows(axes, own, "length", "value", style, labels[name])
            note(axes, own, "length", "value", panel=label(metric), series=name)
            ticks |= set(own["length"])
            count = max(count, largest(own, "n"))
            if metric == SKILL and name in onsets:
                for row in own.filter(pl.col("length") == onsets[name]).iter_rows(named=True):
                    ring(axes, row["length"], row["value"], style)
        axes.set_title(f"n = {count} samples")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        axes.set_ylabel(f"{label(metric)} ({REGISTRY[metric].unit})")
        axes.set_xlabel("context length (tokens, log)")
        _lengths(axes, sorted(ticks))
    legend_above(figure, grid.flat)
    return figure


@styled
def at_lengths_of_models(rows: Mapping[str, pl.DataFrame], models: Sequence[str]) -> Figure | None:
    """A few metrics of all models, over all queries of each length that the study asks for.

    Args:
        rows: Model name to its rows of the table ``at_lengths``.
        models: Names in report order, which fixes each model's look.

    Returns:
        The figure, or None where no lengths were asked for.
    """
    known = pl.col("layer").is_null() & pl.col("value").is_finite()
    own = {name: rows[name].filter(known).sort("length") for name in models if name in rows}
    held = {metric for frame in own.values() for metric in frame["metric"]}
    shown = [metric for metric in HEADS if metric in held][:PANELS]
    if not shown:
        return None
    across = 2 if len(shown) > 1 else 1
    down = -(-len(shown) // across)
    figure = new_figure(0.6 + 2.6 * down)
    grid = figure.subplots(down, across, squeeze=False)
    labels = short_labels(list(models))
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    for axes, metric in zip(grid.flat, shown, strict=False):
        ticks: set[int] = set()
        for name, frame in own.items():
            line = frame.filter(pl.col("metric") == metric)
            if line.is_empty():
                continue
            banded_rows(axes, line, "length", "value", look(list(models).index(name)), labels[name])
            note(axes, line, "length", "value", panel=label(metric), series=name)
            ticks |= set(line["length"])
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.set_ylabel(f"{label(metric)} ({REGISTRY[metric].unit})")
        axes.set_xlabel("length (tokens, log)")
        _lengths(axes, sorted(ticks))
    legend_above(figure, list(grid.flat)[: len(shown)])
    return figure


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
    grid[0, 0].set_title(f"n = {largest(recall['selection_recall'], 'n')} samples")
    grid[0, 0].set_ylabel("attention kept (share), skill")
    if cost.height:
        grid[0, 1].axhline(0, color=MUTED, linewidth=0.9)
        _line(grid[0, 1], cost, label("sparsity_cost"), len(_RECALL))
        grid[0, 1].set_ylabel(f"{label('sparsity_cost')} (nats)")
    for axes in grid.flat:
        if onset_length is not None:
            axes.axvline(onset_length, color=MUTED, linestyle=(0, (2, 2)), label="skill is less from here")
        axes.set_xlabel("context length (tokens, log)")
    legend_above(figure, grid.flat, columns=3)
    return figure


def _line(axes: Axes, rows: pl.DataFrame, words: str, index: int) -> None:
    if rows.is_empty():
        return
    note(axes, rows, "length", "value", ["unit"], series=words)
    style, x = look(index), values(rows, "length")
    axes.fill_between(x, values(rows, "ci_low"), values(rows, "ci_high"), color=style.colour, alpha=0.2, linewidth=0)
    axes.plot(x, values(rows, "value"), color=style.colour, marker=style.marker, linestyle=style.line, label=words)
    _lengths(axes, [int(length) for length in rows["length"]])


def _lengths(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks[-10:], [f"{tick:,}" for tick in ticks[-10:]])
    axes.minorticks_off()
