"""How far clusters of attention maps can be believed, and what they have to do with the pattern types."""

from __future__ import annotations

import polars as pl

from analysis.report.numbers import DASH, count, known, number, percent
from analysis.report.panels.panel import Frames, Panel, TextTable

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
        rows = metrics.filter(pl.col("metric") == "rule_agreement")
        value = known(rows["value"][0]) if rows.height else None
        if value is not None:
            found.append(
                f"Clusters and pattern types by rules agree with an adjusted Rand index of {number(value, places=3)}."
            )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Pattern types of each cluster."""
    rows = frames.get("agreement")
    if rows is None:
        return []
    types = list(dict.fromkeys(rows.sort("count", descending=True)["pattern_type"].cast(pl.String)))
    lines = []
    for (cluster,), own in rows.sort("cluster").group_by("cluster", maintain_order=True):
        shares = dict(own.select(pl.col("pattern_type").cast(pl.String), "share").iter_rows())
        lines.append(
            (
                str(cluster),
                *(percent(shares[name]) if name in shares else DASH for name in types),
                count(own["count"].sum()),
            )
        )
    caption = "Pattern types by rules in each cluster, share of its rows (a row is one head on one sample)"
    return [TextTable(caption, ("cluster", *types, "rows"), tuple(lines), open=False)]


PANEL = Panel(
    analysis="clustering",
    order=40,
    title="How far the clusters can be believed",
    about="k-means always finds clusters: whether it finds the same ones again says more.",
    words=words,
    tables=tables,
)
