"""Whether a candidate's attention maps are of other kinds than the baseline's."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.numbers import count, known, percent, percent_with_interval, span
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.transitions.figures import transition_maps

_NOUNS = {"cluster": "are in another cluster", "type": "are of another pattern type"}


def words(frames: Frames) -> list[str]:
    """How many maps moved, and in which layer most."""
    moved = frames.get("moved")
    if moved is None:
        return []
    found = []
    for of, noun in _NOUNS.items():
        rows = moved.filter((pl.col("of") == of) & pl.col("moved").is_not_null())
        overall, layers = rows.filter(pl.col("layer").is_null()), rows.filter(pl.col("layer").is_not_null())
        if overall.is_empty() or layers.is_empty():
            continue
        row = overall.row(0, named=True)
        if not row["moved"]:
            found.append(f"None of the maps {noun} than in the baseline (n = {row['n']} samples).")
            continue
        most = layers.sort("moved", "layer", descending=[True, False]).row(0, named=True)
        low, high = (None if known(row[name]) is None else 100 * row[name] for name in ("ci_low", "ci_high"))
        found.append(
            f"{percent(row['moved'])} of the maps {noun} than in the baseline (CI {span(low, high, '', 2)} %, "
            f"n = {row['n']} samples); most in layer {most['layer']}, {percent(most['moved'])}."
        )
    return found


def draw(frames: Frames) -> list[Drawn]:
    """The matrices."""
    figure = transition_maps(frames["transitions"]) if "transitions" in frames else None
    caption = (
        "Per cent of the baseline's maps of each kind by their kind in this model: the same sample, layer and head. "
        "In small print the confidence interval, where there is room; all are in the tables below. "
        "Clusters are fitted on all models of the study together, so that numbers mean the same in each."
    )
    return [Drawn("transitions", "From the baseline's patterns to this model's", caption, figure)]


def charts(frames: Frames) -> list[Chart]:
    """The matrices."""
    rows = frames.get("transitions")
    if rows is None:
        return []
    found = []
    for of, what in (("cluster", "cluster"), ("type", "pattern type")):
        own = rows.filter((pl.col("of") == of) & pl.col("layer").is_null())
        found.append(
            Chart(
                f"From each {what} of the baseline to this model's",
                "Share of the baseline's maps of a kind (up) by their kind here (across); each row sums to 1.",
                "map",
                chart_rows(own, "after", "before", "share"),
                x="after",
                y="before",
                shade="share",
                xlabel=f"{what} now",
                ylabel="in the baseline",
            )
        )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """The moves over all layers with their intervals."""
    rows = frames.get("transitions")
    if rows is None:
        return []
    found = []
    for of, what in (("cluster", "cluster"), ("type", "pattern type")):
        own = rows.filter((pl.col("of") == of) & pl.col("layer").is_null())
        lines = [
            (row["before"], row["after"], *percent_with_interval(row), count(row["count"]), count(row["n"]))
            for row in own.iter_rows(named=True)
        ]
        heads = (f"{what} in the baseline", "now", "share, %", "CI", "rows", "n (samples)")
        caption = f"Share of the baseline's rows of each {what} by their {what} now, over all layers"
        if lines:
            found.append(TextTable(caption, heads, tuple(lines), open=False))
    return found


PANEL = Panel(
    analysis="transitions",
    order=30,
    chapter="changed",
    title="How attention patterns moved",
    about="Each attention map of the baseline beside the map of the same head on the same sample here.",
    words=words,
    draw=draw,
    charts=charts,
    tables=tables,
)
