"""The tables of candidates beside the baseline."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.metrics.tables import KIND, LENGTH, PREFIX
from indexscope.columns import Column, Table, interval, of, table_of

#: What `indexscope.analysis.comparison.verdicts` takes beside the difference and its interval.
INFERRED: tuple[Column, ...] = (
    *of(
        pl.Float64,
        "samples",
        n_effective="Samples of equal weight that would say as much: (sum of weights)^2 / sum of their squares.",
    ),
    *of(
        pl.Float64,
        "in the column unit",
        standard_error="Standard error of the difference, from the resamples.",
    ),
    *of(
        pl.Float64,
        "standard deviations",
        effect="Difference over the standard deviation of a sample's share in it (d_z), with Hedges' correction.",
    ),
    *of(
        pl.Float64,
        p="Two-sided p-value of no difference; it is below 1 - confidence where the interval leaves out 0. Null below "
        "8 effective samples.",
    ),
    *of(
        pl.Float64,
        "in the column unit",
        mde="Minimum detectable effect: the true difference that would be detected with a probability of 80 %.",
        tost_low="Lower end of the interval with coverage 2 x confidence - 1, which the margin is held against.",
        tost_high="Upper end of that interval.",
    ),
)
#: What it adds.
JUDGED: tuple[Column, ...] = (
    *of(
        pl.Boolean,
        better="Whether the candidate is better, where the interval leaves out 0 or a count differs; else null.",
    ),
    *of(
        pl.String,
        verdict="In a word: equal (no sample differs by more than rounding, or a count does not differ), else "
        "equivalent (the interval tost_low to tost_high lies within the margin), else better, worse or different "
        "(the confidence interval leaves out 0), else inconclusive; other k: k differs, and the metric compares only "
        "where it does not; leaks: one of the two models failed the causality "
        "audit, so that nothing is judged.",
    ),
    *of(
        pl.Boolean,
        no_worse="Whether the worse end of tost_low to tost_high lies within the margin; null without a direction.",
    ),
    *of(pl.Float64, "in the column unit", margin="Difference that does not matter, by the settings."),
    *of(
        pl.Float64,
        p_adjusted="P-value after Benjamini-Hochberg within its family: the headline metrics, the others, or "
        "the layers or lengths of one metric.",
    ),
    *of(pl.Boolean, corrected="Whether p_adjusted is at most 1 - confidence."),
)


def _compared(key: str, *groups: tuple[Column, ...]) -> Table:
    """Candidates beside the baseline."""
    return table_of(
        key.replace(" ", ", "),
        key,
        *groups,
        of(pl.String, unit="Unit of the values."),
        of(
            pl.Float64,
            "in the column unit",
            baseline="The baseline's value.",
            value="The candidate's value.",
            difference="The candidate's value less the baseline's.",
        ),
        interval(whose="the"),
        of(pl.Int32, "samples", n="Samples that were paired."),
        JUDGED,
        INFERRED,
        ordered=False,
    )


COMPARISONS = _compared("candidate metric layer")
LENGTH_COMPARISONS = _compared("candidate metric length kind", LENGTH, KIND)
AT_LENGTHS = _compared("candidate metric layer length", PREFIX)
COMPARED = {"comparisons": COMPARISONS, "by_length": LENGTH_COMPARISONS, "compared_at_lengths": AT_LENGTHS}
