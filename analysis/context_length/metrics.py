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
            "skill_onset_length",
            "tokens",
            "neither",
            "The context length at which the selection begins to be less skilled; null: not detected.",
            "the smallest 2^m - 1 such that selection_skill over the queries of the bucket that ends there, and over "
            "those of every later bucket, is lower than over the first bucket in effect by more than 0.001: the "
            "interval of the difference, paired by sample, lies beyond it",
            Computed("context_length", "indexer"),
            range="> 0",
            misleads=(
                "Detection needs samples, so that null is no proof of absence and models compare on the same samples "
                "only. The size of the loss is in the table onset. Recall has no such length: of more keys the same k "
                "holds less, whatever the indexer does, so that it falls from the first bucket on."
            ),
        ),
    ),
)
