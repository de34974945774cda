"""From which context length on sparsity costs recall."""

from __future__ import annotations

from indexscope.analysis.metrics.metric import Computed, Family, Metric

FAMILY = Family(
    order=115,
    title="Context length",
    about=(
        "Models are causal, so that the queries t < L of one extraction are what a study of length L measures: the "
        "length analysis gives every metric of tokens, indexer and attention at the lengths 2^m - 1, over all queries "
        "up to there and over the last power of two alone. The first L tokens of each sample count; samples that are "
        "shorter come in with what they have. It does not hold for models whose positions depend on the whole length."
    ),
    metrics=(
        Metric(
            "recall_onset_length",
            "tokens",
            "neither",
            "The context length at which the selection begins to hold less of what it could; null: not detected.",
            "the smallest 2^m - 1 such that recall_of_oracle over the queries of the bucket that ends there, and over "
            "those of every later bucket, is detectably lower than over the first bucket in effect: the interval of "
            "the difference, paired by sample, leaves out 0",
            Computed("context_length", "indexer"),
            range="> 0",
            misleads=(
                "Detection needs samples: with more of them a smaller loss is seen at a shorter length, so that null "
                "is no proof of absence and models compare on the same samples only. The size of the loss is in the "
                "table onset."
            ),
        ),
    ),
)
