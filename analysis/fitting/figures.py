"""Learning curves of a fit: divergence and skill, a line a layer."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from indexscope.analysis.fitting.summary import summarised
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.lines import powers
from indexscope.analysis.plots.style import INK, MUTED, Look, legend_above, new_figure, short_labels, styled

#: Points of a curve that are drawn; between them steps are averaged.
POINTS = 60


@styled
def learning_curves(curves: pl.DataFrame, held_out: pl.DataFrame, topk: int) -> Figure:
    """Two panels for each indexer: KL of the training steps, and skill on held-out text, by layer and step.

    A dotted line marks the sparse stage, whose KL is over the selected keys alone.

    Args:
        curves: Rows of `indexscope.analysis.fitting.tables.CURVES`.
        held_out: Rows of ``HELD_OUT``, the body dense.
        topk: Keys of the skill.
    """
    names = curves["indexer"].unique(maintain_order=True).to_list()
    figure = new_figure(3.0 * len(names))
    panels = figure.subplots(len(names), 2, squeeze=False)
    colours = matplotlib.colormaps["viridis"]
    layers = sorted(curves["layer"].unique())
    skill = summarised(held_out.filter(topk=topk), ("indexer", "layer", "step")) if len(held_out) else None
    for (left, right), name in zip(panels, names, strict=True):
        for place, layer in enumerate(layers):
            colour = colours(0.9 * place / max(1, len(layers) - 1))
            own = curves.filter(indexer=name, layer=layer).sort("step")
            parts = np.array_split(np.arange(len(own)), min(POINTS, len(own)))
            step, kl = own["step"].to_numpy(), own["kl"].to_numpy()
            left.plot([step[p].mean() for p in parts], [kl[p].mean() for p in parts], color=colour, linewidth=1.0)
            if skill is not None:
                rows = skill.filter(indexer=name, layer=layer)
                right.plot(
                    rows["step"], rows["selection_skill"], color=colour, linewidth=1.0, marker="o", markersize=2.5
                )
        mean = curves.filter(indexer=name).group_by("step").agg(pl.col("kl").mean()).sort("step")
        parts = np.array_split(np.arange(len(mean)), min(POINTS, len(mean)))
        step, kl = mean["step"].to_numpy(), mean["kl"].to_numpy()
        left.plot([step[p].mean() for p in parts], [kl[p].mean() for p in parts], color=INK, linewidth=2.0)
        left.set_title(f"{name}: KL by layer, nats (black: mean)")
        right.set_title(f"{name}: held-out skill at {topk} keys")
        sparse = curves.filter(indexer=name, stage="sparse")["step"]
        if len(sparse):
            left.axvline(min(sparse.to_list()), color=MUTED, linestyle=":", linewidth=1.0)
        powers(left)
        for axes in (left, right):
            axes.set_xlabel("step")
    return figure


@styled
def learned_by_model(
    curves: Mapping[str, pl.DataFrame], held_out: Mapping[str, pl.DataFrame], looks: Mapping[str, Look]
) -> Figure | None:
    """KL of the training steps, and recall on held-out text relative to the best choice, over steps: a line a model.

    Args:
        curves: Rows of ``CURVES`` by model.
        held_out: Rows of ``HELD_OUT`` by model.
        looks: The models to draw, in order, with their looks.

    Returns:
        The figure, or None where no model that is drawn has rows.
    """
    names = [name for name in looks if name in curves]
    if not names:
        return None
    figure, short = new_figure(2.6), short_labels(names)
    left, right = figure.subplots(1, 2)
    for name in names:
        style = looks[name]
        mean = curves[name].group_by("step").agg(pl.col("kl").mean()).sort("step")
        parts = np.array_split(np.arange(len(mean)), min(POINTS, len(mean)))
        rows = pl.DataFrame({key: [mean[key].to_numpy()[part].mean() for part in parts] for key in ("step", "kl")})
        left.plot(rows["step"], rows["kl"], color=style.colour, linestyle=style.line, label=short[name])
        note(left, rows, "step", "kl", [], panel="KL", series=name)
        if name in held_out and len(looked := recall_by_step(held_out[name])):
            right.plot(
                looked["step"], looked["recall_of_oracle"], color=style.colour, linestyle=style.line,
                marker=style.marker, label=short[name],
            )  # fmt: skip
            note(right, looked, "step", "recall_of_oracle", [], panel="recall", series=name)
    powers(left)
    left.set_ylabel("KL, nats")
    right.set_ylabel("held-out recall (best choice = 1)")
    for axes in (left, right):
        axes.set_xlabel("step")
    legend_above(figure, [left])
    return figure


def recall_by_step(held_out: pl.DataFrame) -> pl.DataFrame:
    """Recall relative to the best choice over all layers at each look, the body dense, of the middle number of keys.

    Args:
        held_out: Rows of ``HELD_OUT`` of one indexer.

    Returns:
        step, recall_of_oracle and what else `summarised` gives; no rows without looks.
    """
    rows = held_out.filter(attention="dense")
    if rows.is_empty():
        return pl.DataFrame(schema={"step": pl.Int32, "recall_of_oracle": pl.Float64})
    budgets = sorted(rows["topk"].unique())
    return summarised(rows.filter(topk=budgets[len(budgets) // 2]), ("step",)).sort("step")
