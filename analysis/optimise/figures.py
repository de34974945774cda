"""The search in one figure: what every edit that was run costs and loses."""

from __future__ import annotations

import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from indexscope.analysis.plots.drawing import note
from indexscope.analysis.plots.style import GRID, INK, MUTED, VERMILLION, legend_above, look, new_figure, styled

#: Bounds above and below the bound on the loss that are shown.
_ABOVE, _BELOW = 4.0, 0.8


@styled
def search_figure(front: pl.DataFrame, max_loss: float, unit: str, cost: str) -> Figure:
    """Loss over cost of all edits that were run, the front of the search, the best of each search, and the bound.

    Edits that lose more than four times the bound stand on the upper edge.

    Args:
        front: As `indexscope.analysis.optimise.tables.front_table` gives it.
        max_loss: The bound.
        unit: Unit of the loss.
        cost: What the cost is of, in words.
    """
    figure = new_figure(4.2)
    axes = figure.subplots()
    found = front["loss"].filter(front["within"])
    scale = max(max_loss, float(found.abs().max() or 0.0) if found.len() else 0.0, 1e-4)  # type: ignore[arg-type]
    top, bottom = max_loss + (_ABOVE - 1) * scale, -_BELOW * scale
    own = front.filter(pl.col("search") == front["search"][0]) if front.height else front
    shown = own.with_columns(drawn=pl.col("loss").clip(bottom, top))
    beyond = shown.filter(pl.col("loss") > top)
    for full, colour, size, label in ((False, GRID, 9, "run on some samples"), (True, MUTED, 13, "run on all")):
        rows = shown.filter((pl.col("full") == full) & (pl.col("loss") <= top))
        axes.scatter(
            100 * rows["cost"],
            rows["drawn"],
            s=size,
            color=colour,
            zorder=2,
            label=label,
            edgecolors=MUTED,
            linewidths=0.5,
        )
        note(axes, rows, (100 * rows["cost"]).to_numpy(), "drawn", ["edit", "cost", "loss", "origin"], series=label)
    if beyond.height:
        label = f"{beyond.height} that lose more"
        axes.scatter(
            100 * beyond["cost"], beyond["drawn"], s=12, marker="^", color=MUTED, zorder=2, label=label, clip_on=False
        )
        note(axes, beyond, (100 * beyond["cost"]).to_numpy(), "drawn", ["edit", "cost", "loss"], series=label)
    line = shown.filter(pl.col("on_front") & (pl.col("loss") <= top)).sort("cost")
    style = look(0)
    axes.plot(
        100 * line["cost"], line["drawn"], color=style.colour, linewidth=1.4, label="front of the search", zorder=3
    )
    axes.axhline(max_loss, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    axes.axhline(0, color=MUTED, linewidth=0.7, zorder=1)
    axes.annotate(
        f"bound {max_loss:+g}", (1, max_loss), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", fontsize=8, color=INK,
    )  # fmt: skip
    for place, name in enumerate(front["search"].unique(maintain_order=True).to_list()[1:], 1):
        best = front.filter((pl.col("search") == name) & pl.col("within")).sort("cost").head(1)
        if best.height:
            held = "held_out_loss" if best["held_out_loss"][0] is not None else "loss"
            _best(axes, best, held, place + 1, f"best of {name}")
    tests = own.filter(pl.col("test").is_not_null()).sort("test")
    for number, row in enumerate(tests.iter_rows(named=True)):
        rows = tests.slice(number, 1)
        last = bool(row["holds"]) and (number + 1 == tests.height or not tests["holds"][number + 1])
        name = "found, on held-out samples" if last else "tested before, held out" if row["holds"] else "does not hold"
        _best(axes, rows, "held_out_loss", 1 if last else 0, name, hollow=not row["holds"], large=last)
    axes.set_ylim(bottom, top + 0.15 * scale)
    axes.set_xlabel(f"{cost} (% of the model as it is), cheaper ←")
    axes.set_ylabel(f"loss ({unit}), better ↓")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9))
    legend_above(figure, [axes])
    return figure


def _best(
    axes: object, row: pl.DataFrame, column: str, place: int, label: str, hollow: bool = False, large: bool = False
) -> None:
    """One edit, with the interval of its loss on held-out samples where it ran there."""
    style = look(place)
    ends = ("held_out_ci_low", "held_out_ci_high") if column == "held_out_loss" else ("ci_low", "ci_high")
    value, (low, high) = row[column][0], (row[end][0] for end in ends)
    reach = [[max(value - (value if low is None else low), 0)], [max((value if high is None else high) - value, 0)]]
    colour = VERMILLION if large else style.colour
    axes.errorbar(  # type: ignore[attr-defined]
        100 * row["cost"], [value], yerr=reach, fmt=style.marker, color=colour, markersize=9 if large else 6.5,
        markerfacecolor="white" if hollow else colour, elinewidth=1.3, capsize=2.5, label=label, zorder=5,
    )  # fmt: skip
    note(axes, row, (100 * row["cost"]).to_numpy(), column, ["edit", "cost"], series=label)  # type: ignore[arg-type]
