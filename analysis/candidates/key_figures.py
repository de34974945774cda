"""The key numbers of the candidates: how far each differs from the baseline, in margins, and what it costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from indexscope.analysis.metrics.headline import key_metrics
from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.style import GRID, INK, MUTED, Look, new_figure, short_labels, styled
from indexscope.analysis.report.judgement import DETECTED, judge
from indexscope.analysis.report.numbers import decimals, known, number, percent, span

HALF = 4.55
"""Inches: two such figures stand side by side in a page."""
_LEAST, _MOST = 1.5, 4.0
"""Margins that the axis holds at least and at most; what lies beyond is an arrow at its edge."""
_TOLD = 3
"""Differences are printed one by one for at most so many candidates."""

Row = Mapping[str, Any]


def key_rows(comparisons: pl.DataFrame, candidates: Collection[str]) -> tuple[pl.DataFrame, list[str]]:
    """Rows over all layers of these candidates with a difference, and the key metrics among them."""
    rows = comparisons.filter(
        pl.col("layer").is_null() & pl.col("candidate").is_in(list(candidates)) & pl.col("difference").is_finite()
    )
    return rows, key_metrics(set(rows["metric"]))


@styled
def key_differences(comparisons: pl.DataFrame, looks: Mapping[str, Look]) -> Figure | None:
    """Differences of the key metrics from the baseline, each in units of its margin, better to the right.

    Metrics without a margin (counts, timings) have a row below, with the change relative to the baseline in print.

    Args:
        comparisons: Rows of the comparison.
        looks: The candidates to draw, in order, with their looks.

    Returns:
        The figure, or None where nothing was compared.
    """
    rows, metrics = key_rows(comparisons, looks)
    if not metrics:
        return None
    of = {(row["metric"], row["candidate"]): row for row in rows.iter_rows(named=True)}
    judged = [name for name in metrics if any(_in_margins(of.get((name, one))) is not None for one in looks)]
    others = [name for name in metrics if name not in judged]
    figure = new_figure(2.9, HALF)
    axes = figure.subplots()
    reach = _reach([of[name, one] for name in judged for one in looks if (name, one) in of])
    end = 1 - (len(judged) + 0.1) / (len(metrics) + 0.2)  # no mark is held against them below
    axes.axvspan(-1, 1, ymin=end, color=GRID, linewidth=0)
    axes.axvline(0, ymin=end, color=INK, linewidth=0.9)
    labels = short_labels(list(looks), 17)
    for place, (one, style) in enumerate(looks.items()):
        shift = _shift(place, len(looks))
        own = [(judged.index(name) + shift, of[name, one]) for name in judged if (name, one) in of]
        _differences(axes, [pair for pair in own if _in_margins(pair[1]) is not None], style, labels[one], reach, one)
    for line, name in enumerate(judged):
        _printed(axes, line, [of.get((name, one)) for one in looks], list(looks.values()))
    for line, name in enumerate(others, len(judged)):
        _relative(axes, line, [of.get((name, one)) for one in looks], list(looks.values()), reach)
    if others:
        axes.axhline(len(judged) - 0.5, color=MUTED, linewidth=0.6, linestyle=(0, (2, 2)))
    axes.set_yticks(range(len(metrics)), [label(name) for name in (*judged, *others)])
    axes.set_ylim(len(metrics) - 0.4, -0.6)
    axes.set_xlim(-reach, reach)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.set_xlabel("difference (margins), better →")
    handles, names = axes.get_legend_handles_labels()
    columns = min(3, len(names))
    figure.legend(
        handles, names, loc="outside upper left", ncols=columns, handlelength=1.0, columnspacing=1.2, fontsize=8.0
    )
    return figure


def _shift(place: int, count: int) -> float:
    """Where in its row a candidate stands, -0.38 to 0.38."""
    return 0.38 * (2 * (place + 0.5) / count - 1) if count > 1 else 0.0


def better_side(metric: str) -> float:
    """1 where more is better, or neither is; −1 where less is."""
    found = REGISTRY.get(metric)
    return -1.0 if found is not None and found.better == "lower" else 1.0


def _in_margins(row: Row | None) -> float | None:
    """The difference in margins, or None where there is no margin to hold it against."""
    margin = None if row is None else known(row["margin"])
    return None if row is None or not margin else better_side(row["metric"]) * float(row["difference"]) / margin


def _bounds(row: Row) -> tuple[float, float]:
    """The interval in margins, the lesser end first; of no length where there is none."""
    sign, margin = better_side(row["metric"]), float(row["margin"])
    ends = [float(row["difference"] if known(row[name]) is None else row[name]) for name in ("ci_low", "ci_high")]
    low, high = sorted(sign * end / margin for end in ends)
    return low, high


def _reach(rows: Sequence[Row]) -> float:
    ends = [abs(end) for row in rows if _in_margins(row) is not None for end in _bounds(row)]
    return min(max([_LEAST, *(1.08 * end for end in ends)]), _MOST)


def _differences(
    axes: Axes, own: Sequence[tuple[float, Row]], style: Look, name: str, reach: float, series: str
) -> None:
    """Dots, filled where a difference was detected, with their intervals; arrows where they lie beyond the axis."""
    axes.plot([], [], color=style.colour, marker=style.marker, linestyle="", label=name)
    if not own:
        return
    y = np.array([place for place, _ in own])
    value = np.array([_in_margins(row) for _, row in own], dtype=np.float64)
    low, high = np.clip(np.array([_bounds(row) for _, row in own]), -reach, reach).T
    axes.hlines(y, low, high, color=style.colour, linewidth=1.3)
    detected = np.array([judge(row).kind in (*DETECTED, "equivalent") and not _spans_zero(row) for _, row in own])
    inside = np.abs(value) <= reach
    for filled in (True, False):
        at = inside & (detected == filled)
        face = style.colour if filled else "white"
        axes.plot(
            value[at], y[at], color=style.colour, marker=style.marker, markerfacecolor=face, linestyle="", markersize=5
        )
    for at, marker, edge in ((value > reach, ">", reach), (value < -reach, "<", -reach)):
        axes.plot(
            np.full(int(at.sum()), edge),
            y[at],
            color=style.colour,
            marker=marker,
            linestyle="",
            markersize=6,
            clip_on=False,
        )
    kept = pl.DataFrame([row for _, row in own]).with_columns(margins=pl.Series(value))
    told = ["candidate", "metric", "difference", "unit", "margin", "margins", "verdict"]
    note(axes, kept, np.clip(value, -reach, reach), y, told, series=series)


def _spans_zero(row: Row) -> bool:
    low, high = known(row["ci_low"]), known(row["ci_high"])
    return low is None or high is None or low <= 0 <= high


def _printed(axes: Axes, line: int, rows: Sequence[Row | None], looks: Sequence[Look]) -> None:
    """The differences in the metric's own unit, to the right of the panel."""
    own = [(row, style) for row, style in zip(rows, looks, strict=True) if row is not None]
    unit = str(own[0][0]["unit"] or "")
    after = f" {unit}" if unit not in ("share", "ratio", "score", "") else ""
    if len(own) > _TOLD:
        places = min((one for row, _ in own if (one := _digits(row)) is not None), default=None)
        least, most = (pick(float(row["difference"]) for row, _ in own) for pick in (min, max))
        return _beside(axes, line, f"{span(least, most, unit, places, signed=True)}{after}", INK, 7.0)
    for place, (row, style) in enumerate(own):
        shift = _shift(place, len(own))
        size = 8.0 if len(own) == 1 else 7.0 if len(own) == 2 else 6.2
        _beside(axes, line + shift, difference_text(row) + after, INK if len(own) == 1 else style.colour, size)
    return None


def difference_text(row: Row) -> str:
    """A difference with the digits that its interval is worth.

    >>> difference_text({"difference": -0.00218, "ci_low": -0.0023, "ci_high": -0.0020, "unit": "share"})
    '−0.00218'
    """
    return number(row["difference"], str(row["unit"] or ""), _digits(row), signed=True)


def _digits(row: Row) -> int | None:
    return decimals((known(row["ci_low"]), known(row["ci_high"])), known(row["difference"]))


def _beside(axes: Axes, y: float, text: str, colour: str, size: float) -> None:
    axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=size)


def _relative(axes: Axes, line: int, rows: Sequence[Row | None], looks: Sequence[Look], reach: float) -> None:
    """The changes relative to the baseline in print: there is no margin to place them by."""
    own = [(row, style) for row, style in zip(rows, looks, strict=True) if row is not None]
    if len(own) > _TOLD:
        ordered = sorted((row for row, _ in own), key=lambda row: float(row["difference"]))
        texts = [(0.0, f"{relative_text(ordered[0])} to {relative_text(ordered[-1])}", INK)]
    else:
        spots = np.linspace(-reach, reach, 2 * len(own) + 1)[1::2].tolist()
        colours = [INK if len(own) == 1 else style.colour for _, style in own]
        texts = [(*one[:1], relative_text(one[1][0]), one[2]) for one in zip(spots, own, colours, strict=True)]
    for x, text, colour in texts:
        axes.text(x, line, text, ha="center", va="center", fontsize=8.0, color=colour)
    spots = np.linspace(-reach, reach, 2 * len(own) + 1)[1::2]
    told = ["candidate", "metric", "baseline", "value", "difference", "unit"]
    note(axes, pl.DataFrame([row for row, _ in own]), spots, [line] * len(own), told)


def relative_text(row: Row) -> str:
    """A change in per cent of the baseline, or the difference where there is no baseline to hold it against.

    >>> relative_text({"baseline": 40.0, "difference": -30.0, "unit": "ms", "ci_low": None, "ci_high": None})
    '−75\u202f%'
    """
    base, difference = known(row["baseline"]), known(row["difference"])
    if not base or difference is None:
        return difference_text(row)
    if difference == 0:
        return "no change"
    return f"{'−' if difference < 0 else '+'}{percent(abs(difference / base))}"
