"""The registry: all metrics of all families, found by looking into the ``families`` folder."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType

from analysis.metrics import families
from analysis.metrics.metric import Family, Metric


def _families() -> tuple[Family, ...]:
    names = sorted(module.name for module in iter_modules(families.__path__))
    found: list[Family] = [import_module(f"{families.__name__}.{name}").FAMILY for name in names]
    return tuple(sorted(found, key=lambda family: family.order))


def _registry(found: tuple[Family, ...]) -> Mapping[str, Metric]:
    metrics: dict[str, Metric] = {}
    for family in found:
        for metric in family.metrics:
            if metric.name in metrics:
                raise ValueError(f"metric {metric.name} is declared twice, the second time under {family.title}")
            metrics[metric.name] = metric
    for metric in metrics.values():
        unknown = set(metric.bases) - set(metrics)
        if unknown:
            raise ValueError(f"metric {metric.name} derives from {sorted(unknown)}, which no family declares")
    return MappingProxyType(metrics)


FAMILIES = _families()
REGISTRY = _registry(FAMILIES)
