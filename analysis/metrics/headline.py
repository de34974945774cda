"""The numbers that a reader asks for first, chosen before any was seen; corrections for many metrics rest on that."""

from __future__ import annotations

from collections.abc import Collection

from indexscope.analysis.metrics.registry import FAMILIES

HEADLINE = tuple(metric.name for family in FAMILIES for metric in family.metrics if metric.headline)
#: Those that a history shows, each with its stand-ins where a model lacks it: one list, since the verdict weighs them
#: against each other in this order.
FOLLOWED = (("nll", "accuracy"), ("selection_recall",), ("indexer_flops", "indexer_latency_ms", "indexer_parameters"))
#: Those that stand for a study where there is little room, in their order; the other headline metrics fill in where a
#: model lacks some, as a dense one does.
KEY = (
    *("nll", "accuracy", "selection_skill", "selection_recall", "output_error"),
    *("indexer_flops", "indexer_latency_ms"),
)
FEWEST_KEYS = 6


def key_metrics(held: Collection[str]) -> list[str]:
    """The few metrics to show of those that a model has, at most eight.

    >>> key_metrics({"nll", "accuracy", "normalized_entropy", "selection_recall", "perplexity"})
    ['nll', 'accuracy', 'selection_recall', 'normalized_entropy']
    """
    chosen = [metric for metric in KEY if metric in held]
    others = [metric for metric in HEADLINE if metric in held and metric not in KEY]
    return chosen + others[: max(0, FEWEST_KEYS - len(chosen))]
