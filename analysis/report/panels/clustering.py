"""How far clusters of attention maps can be believed, and what they have to do with the pattern types."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.report.numbers import DASH, count, known, number, percent_with_interval, span
from indexscope.analysis.report.panels.panel import Frames, Panel, TextTable

STABLE = 0.8
"""Adjusted Rand index from which on clusterings count as the same; a convention, not a test."""


def words(frames: Frames) -> list[str]:
    """Stability over seeds and halves, agreement with the rules."""
    found = []
    choice, metrics = frames.get("choice"), frames.get("metrics")
    if choice is not None and "halves_mean" in choice.columns:
        for row in choice.filter(pl.col("chosen")).iter_rows(named=True):
            seeds, halves = known(row["seeds_mean"]), known(row["halves_mean"])
            if seeds is not None and halves is not None:
                verdict = "do not depend on" if min(seeds, halves) >= STABLE else "depend on"
                found.append(
                    f"With {row['k']} clusters, fits with other seeds agree with an adjusted Rand index of "
                    f"{number(seeds, places=3)} (least {number(row['seeds_min'], places=3)}) and fits on either half "
                    f"of the samples of {number(halves, places=3)} (least {number(row['halves_min'], places=3)}): the "
                    f"clusters {verdict} seed and samples, {number(STABLE)} taken as the bound."
                )
    if metrics is not None:
        for row in metrics.filter((pl.col("metric") == "rule_agreement") & pl.col("value").is_not_null()).to_dicts():
            found.append(
                "Clusters and pattern types by rules agree with an adjusted Rand index of "
                f"{number(row['value'], places=3)} (CI {span(row['ci_low'], row['ci_high'], places=3)}, "
                f"n = {count(row['n'])} samples)."
            )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Pattern types of all maps and of each cluster."""
    types, agreement = frames.get("pattern_types"), frames.get("agreement")
    found = [] if types is None else [_types(types)]
    return found if agreement is None else [*found, _agreement(agreement)]


def _types(rows: pl.DataFrame) -> TextTable:
    overall = rows.filter(pl.col("layer").is_null() & (pl.col("count") > 0)).sort("count", descending=True)
    lines = [
        (str(row["pattern_type"]), *percent_with_interval(row), count(row["count"]), count(row["n"]))
        for row in overall.iter_rows(named=True)
    ]
    caption = "Pattern types by rules, share of all rows in per cent (a row is one head on one sample)"
    return TextTable(caption, ("pattern type", "share, %", "CI", "rows", "n (samples)"), tuple(lines))


def _agreement(rows: pl.DataFrame) -> TextTable:
    types = list(dict.fromkeys(rows.sort("count", descending=True)["pattern_type"].cast(pl.String)))
    lines = []
    for (cluster,), own in rows.sort("cluster").group_by("cluster", maintain_order=True):
        cells = {str(row["pattern_type"]): "{} ({})".format(*percent_with_interval(row)) for row in own.to_dicts()}
        lines.append((str(cluster), *(cells.get(name, DASH) for name in types), count(own["count"].sum())))
    caption = "Pattern types by rules in each cluster, share of its rows in per cent (CI)"
    return TextTable(caption, ("cluster", *types, "rows"), tuple(lines), open=False)


PANEL = Panel(
    analysis="clustering",
    order=40,
    title="How far the clusters can be believed",
    about=(
        "k-means always finds clusters: whether it finds the same ones again says more. Intervals resample samples and "
        "leave the clusters as they are; seeds and halves tell how far the clusters themselves would change."
    ),
    words=words,
    tables=tables,
)
