"""Where a report's numbers come from: fingerprints, versions, seeds, settings, timings and the machine."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexscope.flows.engine.graph import Graph, Node
from indexscope.flows.study.inputs import Inputs
from indexscope.storage.store.json_types import canonical_json
from indexscope.storage.store.store import JSON
from indexscope.tasks.common.models import cores
from indexscope.tasks.common.reported import Cover, GateRule, ReportedModel
from indexscope.tasks.common.versions import versions

CPUINFO = Path("/proc/cpuinfo")
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
        **({"selections": _selections(inputs)} if inputs.dumps else {}),
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
        **({"plugins": {file.name: file.digest for file in inputs.plugins}} if inputs.plugins else {}),
        "settings": settings,
    }


def _selections(inputs: Inputs) -> dict[str, JSON]:
    """Of each dump its fingerprint, how many samples it has a record of, and which records are of none."""
    return {
        plan.name: {
            "role": plan.role,
            "fingerprint": plan.dump.fingerprint,
            "format": plan.format,
            "samples": len(plan.dump.records),
            "records of no sample": list(plan.unused),
        }
        for plan in inputs.dumps
    }


def cover(inputs: Inputs, graph: Graph) -> Cover:
    """What the report says besides the results."""
    return Cover(
        inputs.study.name,
        _reported(inputs),
        [GateRule(gate.name, gate.rule) for gate in inputs.study.gates],
        {**settled(inputs, graph.nodes), **_timings(inputs, graph)},
        inputs.missing,
        _lost(inputs),
    )


def _lost(inputs: Inputs) -> dict[str, tuple[str, float]]:
    """Older members of series that have no result, with series and step: one that is newer than they has one."""
    newest = {course.name: course.members[-1].at for course in inputs.given.series}
    return {
        model.name: (model.series, model.at)
        for model in inputs.study.candidates
        if model.name in inputs.missing and model.at is not None and model.at < newest.get(model.series, model.at)
    }


def _reported(inputs: Inputs) -> list[ReportedModel]:
    """Models and dumps in the order of the study; of each series its newest member alone, which stands for it."""
    found = {model.name: ReportedModel(model.name, model.role, model.checkpoint.fingerprint) for model in inputs.models}
    found |= {
        plan.name: ReportedModel(plan.name, plan.role, plan.dump.fingerprint, plan.format) for plan in inputs.dumps
    }
    older = {member.name for course in inputs.given.series for member in course.members[:-1]}
    return [found[model.name] for model in inputs.study.models if model.name in found and model.name not in older]


def _timings(inputs: Inputs, graph: Graph) -> dict[str, JSON]:
    """When, where and how the numbers were made: each step's seconds, chunk sizes and notes.

    All are of this run, or of the one that filled the store.
    """
    seconds: dict[str, JSON] = {}
    how: dict[str, JSON] = {}
    for node in graph.some(("extract", "analyze", "compare")):
        told: dict[str, dict[str, JSON]] = {"chunks": {}, "notes": {}}
        taken = 0.0
        for record in inputs.store.records(node.key, node.units):
            taken += _number(record.extra.get("seconds"))
            for name, values in told.items():
                values.update((canonical_json(value), value) for value in _list(record.extra.get(name)))
        seconds[node.title] = round(taken, 3)
        if node.step.runs_model:
            how |= {f"{node.title} {name}": list(values.values()) for name, values in told.items() if values}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(inputs.given.device),
        "seconds": seconds,
        **({"extraction": how} if how else {}),
    }


def _list(value: JSON) -> Sequence[JSON]:
    return value if isinstance(value, list) else []


def _number(value: JSON) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _seeds(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for key, value in settings.items():
        if key == "seed":
            found.append((prefix.rstrip("."), value))
        elif isinstance(value, dict):
            found += _seeds(value, f"{prefix}{key}.")
    return found


def machine(device: str) -> dict[str, JSON]:
    """System, processor, cores that a run may use, and device; of an accelerator its name too.

    Args:
        device: Type of the device that models run on: "cpu", "cuda".
    """
    found: dict[str, JSON] = {
        "system": platform.system(),
        "processor": processor(),
        "cores": cores(),
        "device": device,
    }
    if device == "cuda":
        import torch

        if torch.cuda.is_available():  # where a cluster has run the models it may not be
            found["accelerator"] = torch.cuda.get_device_name()
    return found


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Name and architecture of the processor: two that differ in name alone differ in speed.

    Args:
        cpuinfo: Where Linux tells the name.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    name = next(names, "") or platform.processor()
    architecture = platform.machine()
    return f"{name} ({architecture})" if name and name != architecture else architecture
