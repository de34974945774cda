"""Which metrics are followed over the members of a series."""

from __future__ import annotations

from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import REGISTRY

#: What is followed besides the headline metrics: what positional bias is made of, what heads do, and how far the
#: predictions and selections are from the baseline's.
BESIDE = (
    *("recency_bias", "oldest_bias", "head_effective", "head_agreement", "rule_agreement"),
    *("output_kl", "selection_overlap_with_baseline"),
)
#: The first of a figure, where a series has them.
FIRST = (
    *("selection_recall", "indexer_kl", "nll", "output_kl", "selection_skill", "positional_bias"),
    *("normalized_entropy", "output_error", "head_effective"),
)


def followed() -> tuple[str, ...]:
    """Names of the metrics, in the registry's order."""
    wanted = {*HEADLINE, *BESIDE}
    return tuple(name for name in REGISTRY if name in wanted)


def needed() -> tuple[str, ...]:
    """The same with all that they derive from."""
    bases = {base for name in followed() for base in REGISTRY[name].bases}
    return (*followed(), *sorted(bases - set(followed())))
