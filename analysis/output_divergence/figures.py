"""How far a candidate's predictions lie from the baseline's, by position and by class of the next token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest, values
from indexscope.analysis.plots.lines import banded, powers
from indexscope.analysis.plots.style import INK, Look, legend_above, look, new_figure, short_labels, styled

_AXES = ("position", "token class")
_LINES = {
    "output_divergence": (("baseline", "output_kl", "KL: mean"), ("baseline", "output_kl_median", "KL: median")),
    "ratio": (
        ("baseline", "perplexity_ratio", "perplexity: to the baseline's"),
        ("dense", "perplexity_ratio", "perplexity: to that of dense attention"),
    ),
}
_LABELS = {"output_divergence": "KL (nats, n = {n} samples)", "ratio": "perplexity ratio (n = {n} samples)"}
_TITLES = {"position": "position of the query (token)", "token class": "class of the next token"}


_PERCENTILES = {
    "output_kl_median": "50",
    "output_kl_p90": "90",
    "output_kl_p95": "95",
    "output_kl_p99": "99",
    "output_kl_max": "largest",
}


@styled
def divergence(
    whole: Mapping[str, pl.DataFrame], groups: Mapping[str, pl.DataFrame], looks: Mapping[str, Look]
) -> Figure | None:
    """Divergence of the candidates from the baseline: by percentile of the queries, and its mean by position.

    Args:
        whole: The frame ``output_divergence`` by name of the candidate.
        groups: The frame ``output_divergence_by`` by name.
        looks: The candidates to draw, in order, with their looks.

    Returns:
        The figure, or None where no divergence is known.
    """
    known = (pl.col("against") == "baseline") & pl.col("value").is_finite()
    order = {name: place for place, name in enumerate(_PERCENTILES)}
    place = pl.col("statistic").replace_strict(order, default=None, return_dtype=pl.Int16)
    spread = {
        name: whole[name].filter(known).with_columns(bin=place, label=pl.col("statistic").replace(_PERCENTILES))
        for name in looks
        if name in whole
    }
    means = (pl.col("axis") == "position") & (pl.col("statistic") == "output_kl")
    along = {name: groups[name].filter(known & means) for name in looks if name in groups}
    panels = [
        (
            title,
            {
                name: rows.drop_nulls("bin").sort("bin")
                for name, rows in frames.items()
                if rows.drop_nulls("bin").height
            },
        )
        for title, frames in (("percentile of queries", spread), ("query position (tokens)", along))
    ]
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        return None
    figure, labels = new_figure(3.1), short_labels(list(looks))
    for axes, (title, frames) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        bins = dict(sorted({row for rows in frames.values() for row in rows.select("bin", "label").iter_rows()}))
        spots = {key: float(spot) for spot, key in enumerate(bins)}
        for name, rows in frames.items():
            x = np.array([spots[key] for key in rows["bin"]])
            low, high = values(rows, "ci_low"), values(rows, "ci_high")
            banded(axes, x, values(rows, "value"), low, high, looks[name], labels[name])
            note(axes, rows, x, "value", ["label", "statistic", "unit"], panel=title, series=name)
        positive = all((rows["value"] > 0).all() for rows in frames.values())
        if positive:
            powers(axes)
        step = 2 if len(bins) > 6 else 1
        shown = list(bins)[(len(bins) - 1) % step :: step]
        turned = {"rotation": 25, "ha": "right"} if title.startswith("query") else {}
        axes.set_xticks([spots[key] for key in shown], [bins[key] for key in shown], **turned)
        axes.set_xlabel(title)
        axes.set_ylabel(f"{'mean ' if title.startswith('query') else ''}KL (nats{', log' if positive else ''})")
    legend_above(figure, figure.axes)
    return figure


@styled
def output_by_group(groups: pl.DataFrame) -> Figure | None:
    """Divergence (above) and perplexity ratio (below) by position of the query (left) and by token class (right).

    Args:
        groups: One model's frame ``output_divergence_by``. A baseline has a ratio against its dense attention alone.

    Returns:
        The figure, or None where there is nothing to draw.
    """
    shown = {(what, axis): _rows(groups, axis, what) for what in _LINES for axis in _AXES}
    rows = [what for what in _LINES if any(shown[what, axis].height for axis in _AXES)]
    columns = [axis for axis in _AXES if any(shown[what, axis].height for what in _LINES)]
    if not rows:
        return None
    figure = new_figure(0.6 + 2.9 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for place, axis in enumerate(columns):
        # The last token of a sample has a divergence and nothing to be predicted: one axis for both.
        bins = dict(groups.filter(pl.col("axis") == axis).sort("bin").select("bin", "label").unique().iter_rows())
        for line, what in zip(grid, rows, strict=True):
            if shown[what, axis].is_empty():
                line[place].set_axis_off()
            else:
                _panel(line[place], shown[what, axis], axis, what, {key: bins[key] for key in sorted(bins)})
    legend_above(figure, grid.flat, columns=2)
    return figure


def _rows(groups: pl.DataFrame, axis: str, what: str) -> pl.DataFrame:
    wanted = [statistic for _, statistic, _ in _LINES[what]]
    kept = (pl.col("axis") == axis) & pl.col("statistic").is_in(wanted) & pl.col("value").is_finite()
    return groups.filter(kept).sort("bin")


def _panel(axes: Axes, rows: pl.DataFrame, axis: str, what: str, bins: Mapping[int, str]) -> None:
    order = list(bins)
    if what == "ratio":
        axes.axhline(1, color=INK, linewidth=0.9)
    parts = [
        (place, label, own)
        for place, (against, statistic, label) in enumerate(_LINES[what])
        if (own := rows.filter((pl.col("against") == against) & (pl.col("statistic") == statistic))).height
    ]
    for place, label, own in parts:
        style = look(place + 2 * (what == "ratio"))
        x = np.array([order.index(bin) for bin in own["bin"]], dtype=float)
        value, low, high = (values(own, name) for name in ("value", "ci_low", "ci_high"))
        if axis == "position":
            axes.fill_between(x, low, high, color=style.colour, alpha=0.2, linewidth=0)
            axes.plot(x, value, color=style.colour, marker=style.marker, linestyle=style.line, label=label)
        else:
            x = x + 0.14 * (2 * place - 1) * (len(parts) > 1)
            axes.vlines(x, low, high, color=style.colour, linewidth=1.4)
            axes.plot(x, value, color=style.colour, marker=style.marker, linestyle="", label=label)
        note(axes, own, x, "value", ["label", "value", "unit"], panel=_TITLES[axis], series=label)
    # Labels are wide: of many positions every second one has its own.
    step = 2 if axis == "position" and len(order) > 6 else 1
    ticks = range((len(order) - 1) % step, len(order), step)
    axes.set_xticks(list(ticks), [bins[order[tick]] for tick in ticks], rotation=25, ha="right")
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.set_xlabel(_TITLES[axis])
    axes.set_ylabel(_LABELS[what].format(n=largest(rows, "n")))
