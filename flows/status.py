"""What a study would do: for every step, how much the store has, and why the rest would run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.plan import ModelPlan, Plan
from flows.steps import needed, report_job
from storage.samples import Sample
from storage.store import JSON, StepKey, Store
from tasks.compare import RESULT


@dataclass(frozen=True)
class StepStatus:
    """One line of the plan.

    Attributes:
        step: What would run, and for which model.
        units: Units of the step.
        cached: How many of them the store has.
        rows: Rows of its largest table if that is known ahead: per sample, layer, head and position bucket.
        why: Why it would run; empty if it would not.
    """

    step: str
    units: int
    cached: int
    rows: int | None
    why: str


def status(plan: Plan) -> list[StepStatus]:
    """The lines of the plan, in the order of the work."""
    wanted = [*needed(plan, "extract"), *needed(plan, "analyze"), *needed(plan, "compare")]
    job = report_job(plan)
    wanted.append(("report", job.target.key, (RESULT,)))
    rows = {model.features: _rows(model, plan.samples) for model in plan.models}
    return [_line(plan.store, title, key, units, rows.get(key)) for title, key, units in wanted]


def _line(store: Store, title: str, key: StepKey, units: Sequence[str], rows: int | None) -> StepStatus:
    statuses = list(store.unit_statuses(key, units).values())
    cached, damaged = statuses.count("committed"), statuses.count("damaged")
    if cached == len(units):
        why = ""
    elif cached or damaged:
        why = f"{len(units) - cached - damaged} missing" if not damaged else f"{damaged} damaged, of {len(units)}"
    else:
        why = _novelty(store, key)
    return StepStatus(title, len(units), cached, rows, why)


def _rows(model: ModelPlan, samples: Sequence[Sample]) -> int | None:
    if model.info.layers is None or model.info.attention_heads is None:
        return None
    # A sample of n tokens has the position buckets 0 to floor(log2(n)).
    return (
        model.info.layers * model.info.attention_heads * sum(len(sample.input_ids).bit_length() for sample in samples)
    )


def _novelty(store: Store, key: StepKey) -> str:
    """What sets a step apart from the most similar one of its kind in the store."""
    steps = store.list_steps()
    differences = []
    for digest in steps.filter(steps["kind"] == key.kind)["digest"].to_list():
        manifest = store.manifest(StepKey(key.kind, digest, {}))
        if manifest is not None:
            differences.append(_difference(_flat(manifest.inputs), _flat(key.inputs)))
    closest = min(differences, key=len, default=[])
    return f"new {', '.join(closest)}" if 0 < len(closest) <= 4 else "not in the store"


def _difference(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[str]:
    changed = [name for name in new if old.get(name) != new[name]]
    return [name if _is_digest(new[name]) else f"{name} {old.get(name)} → {new[name]}" for name in changed]


def _is_digest(value: JSON) -> bool:
    return isinstance(value, str) and len(value) >= 20 and all(letter in "0123456789abcdef" for letter in value)


def _flat(inputs: Mapping[str, Any], prefix: str = "") -> dict[str, JSON]:
    flat: dict[str, JSON] = {}
    for name, value in inputs.items():
        entries = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(entries, Mapping):
            flat |= _flat({str(key): item for key, item in entries.items()}, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}".removeprefix("settings.")] = value
    return flat
