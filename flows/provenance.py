"""Where a report's numbers come from: fingerprints, versions, seeds, settings and timings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from indexscope.flows.engine.graph import Graph, Node
from indexscope.flows.inputs import Inputs
from indexscope.flows.machine import machine
from indexscope.storage.store import JSON, UnitRecord
from indexscope.tasks.common.versions import versions
from indexscope.tasks.report import Cover, GateRule, ReportedModel

#: Settings that change no number.
INCIDENTAL = {"store", "report", "runner"}


def settled(inputs: Inputs, nodes: Sequence[Node]) -> dict[str, JSON]:
    """What the study's inputs settle; part of the report's address.

    Args:
        inputs: What the study works on.
        nodes: Its results, those of extraction among them.
    """
    study = inputs.study
    features = {node.model.name: node.key.path for node in nodes if node.step.name == "extract" and node.model}
    lengths = [len(sample.input_ids) for sample in inputs.samples]
    settings = study.model_dump(mode="json", exclude=INCIDENTAL)
    return {
        "versions": dict(versions()),
        "checkpoints": {
            model.name: {
                "role": model.role,
                "fingerprint": model.checkpoint.fingerprint,
                "family": model.info.family,
                "features": features[model.name],
            }
            for model in inputs.models
        },
        **({"missing": dict(inputs.missing)} if inputs.missing else {}),
        "dataset": {
            "source": study.dataset.source,
            "fingerprint": inputs.given.dataset,
            "samples": len(lengths),
            "tokens": sum(lengths),
            "shards": len(inputs.shards),
            "mean_length": sum(lengths) / len(lengths),
        },
        "seeds": dict(_seeds(settings)),
        **({"metrics": {file.name: file.digest for file in inputs.metrics}} if inputs.metrics else {}),
        "settings": settings,
    }


def cover(inputs: Inputs, graph: Graph) -> Cover:
    """What the report says besides the results."""
    return Cover(
        inputs.study.name,
        [ReportedModel(model.name, model.role, model.checkpoint.fingerprint) for model in inputs.models],
        [GateRule(gate.name, gate.rule) for gate in inputs.study.gates],
        {**settled(inputs, graph.nodes), **_timings(inputs, graph)},
        inputs.missing,
    )


def _timings(inputs: Inputs, graph: Graph) -> dict[str, JSON]:
    """When, where and how the numbers were made: each step's seconds, chunk sizes and notes.

    All are of this run, or of the one that filled the store.
    """
    seconds: dict[str, JSON] = {}
    how: dict[str, JSON] = {}
    for node in graph.some(("extract", "analyze", "compare")):
        found = [inputs.store.record(node.key, unit) for unit in node.units]
        records = [record for record in found if record is not None]
        seconds[node.title] = _seconds(records)
        if node.step.runs_model:
            told = {name: _listed(records, name) for name in ("chunks", "notes")}
            how |= {f"{node.title} {name}": values for name, values in told.items() if values}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(inputs.given.device),
        "seconds": seconds,
        **({"extraction": how} if how else {}),
    }


def _listed(records: Sequence[UnitRecord], name: str) -> list[JSON]:
    """What units remember as a list, each value once."""
    found = [record.extra.get(name) for record in records]
    values = [value for values in found if isinstance(values, list) for value in values]
    return [value for place, value in enumerate(values) if value not in values[:place]]


def _seconds(records: Sequence[UnitRecord]) -> float:
    values = [record.extra.get("seconds") for record in records]
    return round(sum(value for value in values if isinstance(value, (int, float))), 3)


def _seeds(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for key, value in settings.items():
        if key == "seed":
            found.append((prefix.rstrip("."), value))
        elif isinstance(value, dict):
            found += _seeds(value, f"{prefix}{key}.")
    return found
