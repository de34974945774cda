"""The tables of series. All rows of a series go by the name of its newest member, whose page shows them."""

from __future__ import annotations

import polars as pl

from indexscope.columns import interval, of, places, table_of

_SERIES = of(pl.String, series="Name of the series; its newest member is the candidate.")
_STEP = of(pl.Float64, "as the axis", step="Step of the member.")
_UNIT = of(pl.String, unit="Unit of the values.")
COURSES = table_of(
    "candidate",
    "candidate",
    _SERIES,
    of(pl.String, axis="What the steps count."),
    of(pl.Int32, "members", members="Members that have results."),
    of(pl.Float64, "as the axis", first="Step of the first member.", newest="Step of the newest member."),
    ordered=False,
)
POINTS = table_of(
    "candidate, metric, layer, step",
    "candidate metric layer step",
    _SERIES,
    _STEP,
    of(pl.String, member="Name of the member."),
    of(pl.Float64, "in the column unit", value="The metric's value at the step."),
    _UNIT,
    interval(whose="the"),
    of(pl.Int32, "samples", n="Samples that the value is of."),
    of(pl.Float64, "in the column unit", since="The newest member's value less this one's, paired by sample."),
    interval("in the column unit", "since_low", "since_high", "that difference's"),
    ordered=False,
)
CHANGES = table_of(
    "candidate, metric, layer, step",
    "candidate metric layer step",
    _SERIES,
    of(pl.Float64, "as the axis", step="The first member's step after the change."),
    of(pl.Float64, "as the axis", before="The last member's step before it."),
    interval("as the axis", whose="the step's", more=": the change lies after the one and not after the other"),
    of(
        pl.Float64,
        "in the column unit",
        level_before="Mean over the members between the change before and this one.",
        level="Mean over the members from this change to the next.",
        difference="The level less the one before.",
    ),
    _UNIT,
    of(pl.Boolean, better="Whether it is a change for the better; null for metrics without a direction."),
    ordered=False,
)
SETTLED = table_of(
    "candidate, metric, layer",
    "candidate metric layer",
    _SERIES,
    of(pl.Int32, "changes", changes="Changes that were found; null where members or samples are too few to tell."),
    of(
        pl.Float64,
        "as the axis",
        settled="Step of the last change, where enough members follow that the metric has settled; null where there is "
        "no change, or the last one is too recent to tell.",
    ),
    of(pl.Float64, "in the column unit", level="Mean over the members since."),
    _UNIT,
    ordered=False,
)
PATTERNS = table_of(
    "candidate, layer, pattern type, step",
    "candidate layer pattern_type step",
    _SERIES,
    of(pl.String, pattern_type="The pattern by rules."),
    _STEP,
    of(pl.Float64, "share", share="Share of the layer's maps."),
    interval("share"),
    of(pl.Int32, "samples", n="Samples that have maps in the layer."),
    ordered=False,
)
ROLES = table_of(
    "candidate, layer, indexer head, step",
    "candidate layer indexer_head step",
    _SERIES,
    places("layer"),
    of(pl.Int16, indexer_head="Index of the indexer head within its layer, from 0."),
    _STEP,
    of(pl.String, words="What the head focuses on."),
    ordered=False,
)
COMPARED = {
    "series": COURSES,
    "series_points": POINTS,
    "series_layers": POINTS,
    "series_changes": CHANGES,
    "series_settled": SETTLED,
    "series_patterns": PATTERNS,
    "series_roles": ROLES,
}
