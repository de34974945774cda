"""Which metrics belong together, in which order, and which way is better: read from the registry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from indexscope.analysis.metrics.registry import REGISTRY, all_families

# Columns of the layer tables, where the layer has them.
LAYER_METRICS = (
    "selection_skill",
    "selection_recall",
    "oracle_recall",
    "random_recall",
    "oracle_overlap",
    "indexer_kl",
    "tie_share",
    "normalized_entropy",
    "sparsity_ratio",
    "local_mass",
    "sink_mass",
    "output_error",
    "positional_bias",
)


@dataclass(frozen=True)
class Group:
    """A heading and the metrics under it."""

    title: str
    metrics: tuple[str, ...]


def wanted(metric: str) -> str:
    """The direction that is better, as "↑ better", "↓ better" or nothing."""
    entry = REGISTRY.get(metric)
    return {"higher": "↑ better", "lower": "↓ better"}.get(entry.better, "") if entry else ""


def is_cost(metric: str) -> bool:
    """Whether a metric counts or times what a model costs."""
    entry = REGISTRY.get(metric)
    return entry is not None and entry.table in ("facts", "profile")


def paired(metric: str) -> bool:
    """Whether a metric is of a candidate and the baseline together."""
    entry = REGISTRY.get(metric)
    return entry is not None and entry.paired


def grouped(metrics: Iterable[str]) -> list[Group]:
    """The metrics by family, in the registry's order; those that the registry lacks come last, by name."""
    left = set(metrics)
    groups = []
    for family in all_families():
        own = tuple(metric.name for metric in family.metrics if metric.name in left)
        left -= set(own)
        if own:
            groups.append(Group(family.title, own))
    return [*groups, Group("Other", tuple(sorted(left)))] if left else groups
