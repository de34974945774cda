"""The numbers that a reader asks for first, chosen before any was seen; corrections for many metrics rest on that."""

from __future__ import annotations

from indexscope.analysis.metrics.registry import FAMILIES

HEADLINE = tuple(metric.name for family in FAMILIES for metric in family.metrics if metric.headline)
#: Those that a history shows, each with its stand-ins where a model lacks it: one list, since the verdict weighs them
#: against each other in this order.
FOLLOWED = (("nll", "accuracy"), ("selection_recall",), ("indexer_flops", "indexer_latency_ms", "indexer_parameters"))
