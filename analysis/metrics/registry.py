"""The registry: the metrics of every question and of the features, found in their folders, and a study's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

from indexscope.analysis import questions
from indexscope.analysis.metrics.metric import Family, Metric

#: The family of the study that is being worked on. A context variable, so that studies in one process do not mix.
_own: ContextVar[Family | None] = ContextVar("metrics of the study's own files", default=None)


class Registry(Mapping[str, Metric]):
    """Metrics by name: those of the families, then those that the study at hand declares in files of its own.

    Args:
        built_in: The metrics of the families.
    """

    def __init__(self, built_in: Mapping[str, Metric]) -> None:
        self.built_in = MappingProxyType(dict(built_in))

    def __getitem__(self, name: str) -> Metric:
        found = self.built_in.get(name)
        return self._more()[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from self._more()

    def __len__(self) -> int:
        return len(self.built_in) + len(self._more())

    def _more(self) -> dict[str, Metric]:
        own = _own.get()
        return {} if own is None else {metric.name: metric for metric in own.metrics}


@contextmanager
def with_family(family: Family | None) -> Iterator[None]:
    """Have the registry know a study's own metrics inside the block, in this thread.

    Args:
        family: The metrics; None for a study without.
    """
    token = _own.set(family)
    try:
        yield
    finally:
        _own.reset(token)


def all_families() -> tuple[Family, ...]:
    """The families, and last that of the study at hand if it has one."""
    own = _own.get()
    return FAMILIES if own is None else (*FAMILIES, own)


def _families() -> tuple[Family, ...]:
    return tuple(sorted(questions.declared("metrics", Family), key=lambda one: one.order))


def _registry(found: tuple[Family, ...]) -> Registry:
    metrics: dict[str, Metric] = {}
    for family in found:
        for metric in family.metrics:
            if metric.name in metrics:
                raise ValueError(f"metric {metric.name} is declared twice, the second time under {family.title}")
            metrics[metric.name] = metric
    for metric in metrics.values():
        unknown = {*metric.bases, *metric.repeats, metric.margin_of or metric.name} - set(metrics)
        if unknown:
            raise ValueError(f"metric {metric.name} refers to {sorted(unknown)}, which no family declares")
    return Registry(metrics)


FAMILIES = _families()
REGISTRY = _registry(FAMILIES)


def label(name: str, others: Mapping[str, str] = MappingProxyType({})) -> str:
    """What running text and figures call a metric, or what goes by the name of one; `others` are no metrics."""
    metric = REGISTRY.get(name)
    return others.get(name, name.replace("_", " ")) if metric is None else metric.label
