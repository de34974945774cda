"""The table of candidates beside the baseline, in each kind of question, length and depth."""

from __future__ import annotations

import polars as pl

from indexscope.columns import SAMPLES, interval, of, places, table_of

CHANGES = table_of(
    "candidate, metric, kind of question, length, depth",
    "candidate metric kind length depth",
    places("candidate", "metric"),
    of(pl.String, kind="Kind of question; null for all."),
    of(pl.Int32, "tokens", length="Length of the samples; null for all."),
    of(pl.Float64, "share", depth="Where the part of the context begins that the evidence begins in; null for all."),
    of(
        pl.Float64,
        "as the metric",
        baseline="The baseline's value.",
        value="The candidate's value.",
        difference="The candidate's value less the baseline's, paired by sample.",
    ),
    interval("as the metric", whose="the difference's"),
    SAMPLES,
    of(
        pl.Int32,
        "samples",
        better="Samples in which the candidate's value is the better one; null without a direction.",
        worse="Samples in which it is the worse one; null without a direction.",
    ),
    ordered=False,
)
COMPARED = {"evidence_changes": CHANGES}
