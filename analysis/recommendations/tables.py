"""The tables of recommendations, and of what was weighed for them."""

from __future__ import annotations

import polars as pl

from indexscope.columns import interval, of, table_of

RECOMMENDATIONS = table_of(
    "recommendation",
    "rank",
    of(pl.Int16, rank="Place in the list, from 1."),
    of(
        pl.String,
        kind="What is changed: indexer heads, sharing, budget or allocation.",
        change="The change in words.",
    ),
    of(pl.Float64, "share", expected_loss="Recall lost in the layers that change; below 0 a gain."),
    interval("share", whose="the loss'"),
    of(
        pl.Float64,
        "share",
        mean_loss="Recall lost on the mean over all layers.",
        saving="Operations of indexer and attention saved at the study's lengths.",
        saving_at_64k="The same for a prefill of 65,536 tokens.",
    ),
    of(pl.String, basis="Table that says so, and its number of samples.", caveat="What could mislead."),
)
OPTIONS = table_of(
    "weighed change",
    "kind change",
    of(
        pl.String,
        kind="What is changed, in all layers together: indexer heads, sharing or budget.",
        change="The change in words.",
    ),
    of(pl.Float64, "share", expected_loss="Recall lost; below 0 a gain."),
    interval("share", whose="the loss'"),
    of(
        pl.Float64,
        "share",
        saving="Operations of indexer and attention saved at the study's lengths.",
        saving_at_64k="The same for a prefill of 65,536 tokens.",
    ),
    of(pl.Boolean, recommended="Whether it is among the recommendations."),
    ordered=False,
)
RESULTS = {"recommendations": RECOMMENDATIONS, "recommendation_options": OPTIONS}
