"""How spread out each head's attention is, against what its queries could spread over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.metrics.registry import label
from indexscope.analysis.plots.beside import legend_below
from indexscope.analysis.plots.drawing import few_columns, note
from indexscope.analysis.plots.frames import values
from indexscope.analysis.plots.style import INK, MUTED, SKY, look, new_figure, styled

#: Heads whose lines are told apart; more are drawn in grey with their mean.
FEW = 6


@styled
def entropy_of_heads(by_position: pl.DataFrame, by_head: pl.DataFrame, title: str, called: Sequence[str]) -> Figure:
    """Entropy by position of the query, a line a head under the largest there can be; normalised entropy by head.

    Args:
        by_position: head, last_query, queries, entropy (nats); of the queries' t + 1 and n_t the geometric means place
            and keys.
        by_head: head, normalized_entropy, with ci_low and ci_high where there are several samples.
        title: Of the figure.
        called: What each head of by_head is called in words, "head 0" or "layer 1 head 0".
    """
    figure = new_figure(3.7)
    figure.suptitle(title, fontsize=10.5, fontweight="bold")
    left, right = figure.subplots(1, 2)
    heads = by_head["head"].to_list()
    few = len(heads) <= FEW
    for index, head in enumerate(heads):
        own = by_position.filter(pl.col("head") == head).sort("last_query")
        style = look(index)
        words = called[index]
        note(left, own, "keys", "entropy", ["head", "last_query", "queries"], panel="by position", series=words)
        x, y = values(own, "place"), values(own, "entropy")
        if few:
            left.plot(x, y, color=style.colour, marker=style.marker, linestyle=style.line, label=words)
        else:
            left.plot(x, y, color=MUTED, linewidth=0.8, alpha=0.6, label="single heads" if index == 0 else None)
    mean = by_position.group_by("last_query").agg(pl.col("entropy", "place", "keys").mean()).sort("last_query")
    x = values(mean, "place")
    if not few:
        left.plot(x, values(mean, "entropy"), color=look(0).colour, marker="o", label="mean of the heads")
    left.plot(x, np.log(values(mean, "keys")), color=INK, linestyle=(0, (2, 2)), linewidth=1.2, label="uniform")
    left.set_xscale("log", base=2)
    ticks = [1 << power for power in range(int(np.log2(x.max()) + 0.01) + 1)][-10:]
    left.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    left.minorticks_off()
    left.set_xlabel("tokens up to the query (mean of each power of two)")
    left.set_ylabel("entropy (nats)")
    left.set_ylim(bottom=0)
    _bars(right, by_head, called)
    legend_below(left, 4, middle=True, fontsize=8)
    return figure


def _bars(axes: Axes, by_head: pl.DataFrame, called: Sequence[str]) -> None:
    height = values(by_head, "normalized_entropy")
    place = np.arange(len(height))
    axes.bar(place, height, width=0.7, color=SKY, edgecolor=INK, linewidth=0.5)
    low, high = values(by_head, "ci_low"), values(by_head, "ci_high")
    for x, start, end in zip(place, low, high, strict=True):
        if np.isfinite(start + end):
            axes.plot([x, x], [start, end], color=INK, linewidth=1)
    note(axes, by_head, place, height, ["head", "normalized_entropy"], panel="by head")
    axes.set_ylim(0, 1.02)
    few_columns(axes, len(place), 6)
    step = max(1, -(-len(place) // 16))
    names = [name.removeprefix("head ") for name in called[::step]]
    axes.set_xticks(place[::step], names, rotation=90 if max(map(len, names)) > 4 else 0)
    axes.set_xlabel("head")
    axes.set_ylabel(f"{label('normalized_entropy')} (1 = uniform)")
    axes.grid(axis="x", visible=False)
