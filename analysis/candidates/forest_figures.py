"""Every sampled difference from the baseline with its confidence interval, on one scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.frames import largest
from indexscope.analysis.plots.style import GREEN, INK, MUTED, VERMILLION, new_figure, short_labels, styled

_LINEAR = 1.0
_TICKS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
_LIMITS = (1.5, 4.0, 15.0, 40.0, 150.0, 400.0, 1500.0)
_SMALLEST_BASELINE = 1e-9


@styled
def forest(comparisons: pl.DataFrame, candidates: Sequence[str]) -> Figure | None:
    """Relative differences from the baseline in per cent, one panel per candidate, one row per metric.

    Args:
        comparisons: Result of the comparison; rows over all layers that have an interval are drawn.
        candidates: Candidate names in report order.

    Returns:
        The figure, or None where nothing was sampled in pairs.
    """
    rows = relative(comparisons)
    if rows.is_empty():
        return None
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    shown = [name for name in candidates if rows.filter(pl.col("candidate") == name).height]
    figure = new_figure(1.35 + 0.205 * len(metrics))
    grid = figure.subplots(1, len(shown), sharey=True, sharex=True, squeeze=False)
    labels = short_labels(list(candidates), min(26, max(10, 60 // len(shown))))
    reach = float(np.nanmax(np.abs(rows.select("low", "centre", "high").to_numpy())))
    for axes, name in zip(grid.flat, shown, strict=True):
        own = rows.filter(pl.col("candidate") == name)
        _panel(axes, own, metrics, bool(rows["leaks"].any()))
        rows_down = [metrics.index(metric) for metric in own["metric"]]
        shown_as = own.select("metric", "n", difference_percent="centre", ci_low_percent="low", ci_high_percent="high")
        told = ["metric", "difference_percent", "ci_low_percent", "ci_high_percent"]
        note(axes, shown_as, "difference_percent", rows_down, told, panel=name)
        axes.set_title(f"{labels[name]}\nn = {largest(own, 'n')} samples")
        _scale(axes, reach)
    axes = grid[0, 0]
    axes.set_yticks(range(len(metrics)), [str(metric) for metric in metrics])
    axes.set_ylim(len(metrics) - 0.4, -0.6)
    figure.supxlabel("difference from the baseline, % of the baseline value", fontsize=9)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=4)
    return figure


def relative(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Differences and intervals over all layers as per cent of the baseline's absolute value."""
    scale = 100.0 / pl.col("baseline").abs()
    return comparisons.filter(
        pl.col("layer").is_null()
        & pl.col("unit").ne_missing("ms")  # timings are not sampled in pairs
        & pl.col("ci_low").is_finite()
        & pl.col("ci_high").is_finite()
        & (pl.col("baseline").abs() > _SMALLEST_BASELINE)
    ).select(
        "candidate",
        "metric",
        "better",
        "n",
        leaks=pl.col("verdict").eq_missing(LEAKS),
        low=pl.col("ci_low") * scale,
        centre=pl.col("difference") * scale,
        high=pl.col("ci_high") * scale,
    )


def _panel(axes: Axes, rows: pl.DataFrame, metrics: Sequence[str], some_leak: bool) -> None:
    judged = ~pl.col("leaks")
    groups = (
        ("better", "^", GREEN, GREEN, pl.col("better").eq_missing(True)),
        ("worse", "v", VERMILLION, VERMILLION, pl.col("better").eq_missing(False)),
        ("different, no preferred direction", "D", INK, INK, pl.col("better").is_null() & ~_touches_zero() & judged),
        ("no detectable difference", "o", MUTED, "white", pl.col("better").is_null() & _touches_zero() & judged),
        *([("leaks, not judged", "x", MUTED, MUTED, ~judged)] if some_leak else []),
    )
    axes.axvline(0, color=INK, linewidth=0.9)
    for label, marker, colour, face, mask in groups:
        own = rows.filter(mask)
        place = [metrics.index(metric) for metric in own["metric"]]
        low, centre, high = (own[column].to_numpy() for column in ("low", "centre", "high"))
        # A percentile interval need not hold its own estimate; a bar must not have a negative length.
        reach = [np.clip(centre - low, 0, None), np.clip(high - centre, 0, None)]
        axes.errorbar(
            centre, place, xerr=reach, fmt=marker, color=colour, markerfacecolor=face, elinewidth=1.3, label=label
        )
    axes.grid(axis="y", visible=False)


def _touches_zero() -> pl.Expr:
    return (pl.col("low") <= 0) & (pl.col("high") >= 0)


def _scale(axes: Axes, reach: float) -> None:
    """Linear within one per cent and logarithmic outside, so that small and large differences both show."""
    axes.set_xscale("symlog", linthresh=_LINEAR, linscale=1.0)
    top = next((limit for limit in _LIMITS if limit >= reach), max(reach * 1.2, 1.0))
    ticks = [tick for tick in _TICKS if tick <= top]
    axes.set_xlim(-top, top)
    axes.xaxis.set_major_locator(FixedLocator(sorted({-step for step in ticks} | {0.0} | set(ticks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+,.0f}".replace("-", "−") if value else "0"))
