"""What the reports say of metrics that are not built in: unit, direction, kind, without the code that computes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from indexscope.analysis.metrics.metric import KINDS, Better, Computed, Family, Metric
from indexscope.analysis.metrics.registry import REGISTRY, with_family

_TABLES = {kind: table for table, kind in KINDS.items()}


@contextmanager
def defined(*reports: Mapping[str, Any]) -> Iterator[None]:
    """Have the registry know every metric of the reports inside the block, in this thread.

    A metric that a report only holds and does not define, as those of the first versions did, has no direction; nor
    has one whose direction the reports do not agree on.
    """
    with with_family(_family(reports)):
        yield


def _family(reports: tuple[Mapping[str, Any], ...]) -> Family | None:
    found: dict[str, Metric] = {}
    for report in reports:
        for row in report.get("definitions", ()):
            metric = _metric(row)
            before = found.setdefault(metric.name, metric)
            if before.better != metric.better:
                found[metric.name] = _metric({**row, "better": "neither"})
    for report in reports:
        for row in report["metrics"]:
            if row["name"] not in found:
                found[row["name"]] = _metric({"name": row["name"], "unit": row["unit"], "better": "neither"})
    own = tuple(metric for name, metric in found.items() if name not in REGISTRY.built_in)
    return Family(1000, "Metrics of the study's own", "As the reports define them.", own) if own else None


def _metric(row: Mapping[str, Any]) -> Metric:
    better: Better = row["better"]
    table = _TABLES.get(row.get("kind", ""), "samples")
    return Metric(
        row["name"], row["unit"], better, row.get("meaning", ""), row.get("formula", ""), Computed("report", table)
    )
