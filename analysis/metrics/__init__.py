"""Every metric: name, unit, direction, definition and rule. Adding one touches one file of ``families``."""

from indexscope.analysis.metrics.metric import Better, Computed, Derived, Family, Metric, Paired, Ratio
from indexscope.analysis.metrics.registry import FAMILIES, REGISTRY

__all__ = ["FAMILIES", "REGISTRY", "Better", "Computed", "Derived", "Family", "Metric", "Paired", "Ratio"]
