"""Whether the indexer prefers some positions over others."""

from __future__ import annotations

from analysis.metrics.metric import Computed, Family, Metric

_POSITIONAL = Computed("positional", "positions")

FAMILY = Family(
    order=80,
    title="Positional bias",
    about=(
        "Lift = selections / expected selections. The expectation is that of a random selector of the same size: each "
        "eligible key is taken with probability k_t / n_t, so that early keys, which are eligible for more queries, do "
        "not look preferred. Lift 1 is no preference. Only queries in effect count."
    ),
    metrics=(
        Metric(
            "positional_bias",
            "bits",
            "neither",
            "How far selections by distance are from what chance would give; 0 is no bias, 1 a factor of two.",
            "sum over distance bins b of (expected_b / sum of expected) |log2(selections_b / expected_b)|; bins are "
            "d = 0 and 2^(b-1) <= d < 2^b; |log2| is capped at 6, so that a distance that is never selected counts as "
            "a factor of 64; the overall value runs over all (layer, bin) cells, so that opposite layers do not "
            "cancel; noise keeps it slightly above 0 even without bias; its interval is that of its linearisation "
            "(first-order influence of each sample)",
            _POSITIONAL,
        ),
        Metric(
            "recency_lift",
            "ratio",
            "neither",
            "How much more often than by chance the 32 nearest keys are selected.",
            "sum of selections with t - s < 32 / sum of their expected selections",
            _POSITIONAL,
        ),
        Metric(
            "oldest_lift",
            "ratio",
            "neither",
            "How much more often than by chance the oldest tenth of the eligible keys is selected (sinks are there).",
            "sum of selections with floor(10 r / n_t) = 0, r the rank of s in E_t / sum of their expected selections",
            _POSITIONAL,
        ),
    ),
)
