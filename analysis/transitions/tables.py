"""The tables of transitions between patterns."""

from __future__ import annotations

import polars as pl

from indexscope.columns import interval, of, table_of

_OF = of(pl.String, of="What is followed: cluster, or type for the pattern types by rules.")
TRANSITIONS = table_of(
    "candidate, layer, cluster or type, before, after",
    "candidate layer of before after",
    _OF,
    of(
        pl.String,
        before="The cluster or type of the maps in the baseline.",
        after="Their cluster or type in the candidate.",
    ),
    of(pl.Float64, "share", share="Share of the layer's maps with that before."),
    interval("share"),
    of(pl.Int64, "maps", count="Maps that went this way."),
    of(pl.Int32, "samples", n="Samples that have maps in the layer with that before."),
    ordered=False,
)
MOVED = table_of(
    "candidate, layer, cluster or type",
    "candidate layer of",
    _OF,
    of(pl.Float64, "share", moved="Share of maps that are in another cluster or of another type than in the baseline."),
    interval(whose="the"),
    of(pl.Int32, "samples", n="Samples that both models have."),
    ordered=False,
)
COMPARED = {"transitions": TRANSITIONS, "moved": MOVED}
