"""Where a report's numbers come from: fingerprints, versions, seeds, settings and timings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flows.machine import machine
from flows.plan import Plan
from storage.store import JSON, StepKey
from tasks.compare import RESULT
from tasks.probe import PROBE
from tasks.report import MEASURES
from tasks.versions import versions

#: Settings that change no number.
INCIDENTAL = {"store", "report", "runner"}


def settled(plan: Plan) -> dict[str, JSON]:
    """What the study's inputs settle; part of the report's address."""
    study = plan.study
    lengths = [len(sample.input_ids) for sample in plan.samples]
    settings = study.model_dump(mode="json", exclude=INCIDENTAL)
    return {
        "versions": dict(versions()),
        "checkpoints": {
            model.name: {
                "role": model.role,
                "fingerprint": model.checkpoint.fingerprint,
                "family": model.info.family,
                "features": model.features.path,
            }
            for model in plan.models
        },
        **({"missing": dict(plan.missing)} if plan.missing else {}),
        "dataset": {
            "source": study.dataset.source,
            "fingerprint": plan.dataset,
            "samples": len(lengths),
            "tokens": sum(lengths),
            "shards": len(plan.shards),
            "mean_length": sum(lengths) / len(lengths),
        },
        "seeds": dict(_seeds(settings)),
        **({"metrics": {file.name: file.digest for file in plan.metrics}} if plan.metrics else {}),
        "settings": settings,
    }


def timings(plan: Plan) -> dict[str, JSON]:
    """When, where and how the numbers were made: each step's seconds, chunk sizes and notes.

    All are of this run, or of the one that filled the store.
    """
    seconds: dict[str, JSON] = {}
    how: dict[str, JSON] = {}
    for model in plan.models:
        for step, key, units in (
            ("extract", model.features, plan.units),
            ("measure", model.measures, (MEASURES,)),
            ("probe", model.probe, (PROBE,)),
            *([("user_features", model.user_features, plan.units)] if model.user_features else []),
        ):
            made = _extras(plan, key, units)
            how |= {f"{step} {model.name} {name}": values for name in ("chunks", "notes") if (values := made[name])}
            seconds[f"{step} {model.name}"] = _seconds(plan, key, units)
        for analysis, key in model.analyses.items():
            seconds[f"{analysis} {model.name}"] = _seconds(plan, key, (RESULT,))
    seconds["compare"] = _seconds(plan, plan.comparison, (RESULT,))
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(plan.device),
        "seconds": seconds,
        **({"extraction": how} if how else {}),
    }


def _extras(plan: Plan, key: StepKey, units: tuple[str, ...]) -> dict[str, list[JSON]]:
    """What the units remember as lists, each value once."""
    found: dict[str, list[JSON]] = {"chunks": [], "notes": []}
    for record in (plan.store.record(key, unit) for unit in units):
        for name, values in found.items():
            more = record.extra.get(name) if record is not None else None
            values += [value for value in (more if isinstance(more, list) else []) if value not in values]
    return found


def _seconds(plan: Plan, key: Any, units: tuple[str, ...]) -> float:
    store = plan.store
    records = [store.record(key, unit) for unit in units]
    values = [record.extra.get("seconds") for record in records if record is not None]
    return round(sum(value for value in values if isinstance(value, (int, float))), 3)


def _seeds(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for key, value in settings.items():
        if key == "seed":
            found.append((prefix.rstrip("."), value))
        elif isinstance(value, dict):
            found += _seeds(value, f"{prefix}{key}.")
    return found
