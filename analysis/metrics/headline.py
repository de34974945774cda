"""The numbers that a reader asks for first, chosen before any was seen; corrections for many metrics rest on that."""

from __future__ import annotations

HEADLINE = (
    "nll",
    "accuracy",
    "sparsity_cost",
    "selection_recall",
    "recall_of_oracle",
    "output_error",
    "indexer_kl",
    "in_effect",
    "normalized_entropy",
    "positional_bias",
    "indexer_parameters",
    "indexer_flops",
    "indexer_latency_ms",
    "efficiency_score",
)
#: Those that a history shows, each with its stand-ins where a model lacks it; as the verdict weighs them.
FOLLOWED = (("nll", "accuracy"), ("selection_recall",), ("indexer_flops", "indexer_latency_ms", "indexer_parameters"))
