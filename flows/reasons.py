"""Why a step runs: what was asked for, what is missing or damaged, or which input differs from the last time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.jobs import Contents, Step
from flows.plan import Plan
from storage.json_types import JSON
from storage.keys import SCHEMA_VERSION
from storage.store import Manifest, StepKey, Store
from tasks.catalogue import ALL_ANALYSES
from tasks.step import is_stale

#: Kind of the step that a digest among the inputs addresses, by the input's name.
KINDS = {
    "features": "features",
    "measures": "models",
    "probe": "probes",
    "user_features": "user_features",
    "comparison": "comparisons",
    **{analysis: f"analyses/{analysis}" for analysis in ALL_ANALYSES},
}
#: Differences that are told; the others are counted.
TOLD = 3
#: What begins the name of an input that is the checksum of the file of a declared function.
CODE = "code of "
NOVEL = "not in the store"


def why(plan: Plan, step: Step, contents: Contents) -> str:
    """Why a step would run now; empty if it would not."""
    if step.name in plan.refresh:
        return f"asked for by --refresh {step.name}"
    store = plan.store
    statuses = store.unit_statuses(step.key, step.units)
    damaged = [unit for unit, status in statuses.items() if status == "damaged"]
    committed = sum(status == "committed" for status in statuses.values())
    if damaged:
        return f"{_first(damaged)} damaged, of {len(step.units)}"
    if committed == len(step.units):
        made_from = contents.made_from(step)
        records = (store.record(step.key, unit) for unit in step.units) if made_from is not None else ()
        stale = any(record is not None and is_stale(record, made_from) for record in records)
        return "made from other results than the store has now" if stale else ""
    if committed:
        return f"{len(step.units) - committed} of {len(step.units)} missing"
    return _novelty(plan, step)


def _first(units: list[str]) -> str:
    return units[0] if len(units) == 1 else f"{units[0]} and {len(units) - 1} more"


def _novelty(plan: Plan, step: Step) -> str:
    """What sets a step apart from the most similar one of its kind: of the same label or sources."""
    store = plan.store
    inputs = _planned(plan)
    ranked = []
    for digest in store.digests(step.key.kind):
        old = store.manifest(StepKey(step.key.kind, digest, {}))
        if old is None or old.digest == step.key.digest:
            continue
        changed = _changed(_flat(_hashed(old.inputs, old.schema_version)), _flat(_hashed(step.key.inputs)))
        alike = old.label == step.label
        if changed and (alike or not any(_is_digest(new) for _, _, new in changed)):
            ranked.append((not alike, len(changed), -_age(store, old), old))
    if not ranked:
        return NOVEL
    nearest = min(ranked, key=lambda entry: entry[:3])[3]
    files = {file.digest: file.name for file in plan.metrics}
    return _told(store, _hashed(nearest.inputs, nearest.schema_version), _hashed(step.key.inputs), inputs, files)


def _hashed(inputs: Mapping[str, JSON], schema_version: int = SCHEMA_VERSION) -> dict[str, JSON]:
    """All that makes a digest: an older store's results are not read but computed anew, and this tells that."""
    return {"store schema": schema_version, **inputs}


def _age(store: Store, manifest: Manifest) -> float:
    written = store.folder.child(f"{manifest.kind}/{manifest.digest}").modified("manifest.json")
    return written.timestamp() if written is not None else 0.0


def _planned(plan: Plan) -> dict[str, Mapping[str, JSON]]:
    """The inputs of the plan's steps by digest: those that are new have no manifest yet."""
    keys = [key for model in plan.models for key in (*model.ran.values(), *model.results.values())]
    return {key.digest: key.inputs for key in (*keys, plan.comparison)}


def _told(
    store: Store,
    old: Mapping[str, JSON],
    new: Mapping[str, JSON],
    planned: Mapping[str, Mapping[str, JSON]],
    files: Mapping[str, str],
    deep: bool = True,
) -> str:
    changed = _changed(_flat(old), _flat(new))
    told: dict[str, list[str]] = {text: [""] for text in _code(changed, files)}
    for name, before, after in changed:
        model, _, last = name.rpartition("/")
        if last.startswith(CODE):
            continue
        if last == "pooled":
            text = "models that it is fitted on changed"
        elif not _is_digest(after):
            text = f"{last} changed {_value(before)} → {_value(after)}"
        elif last in KINDS:
            inner = _inner(store, KINDS[last], str(before), str(after), planned, files) if deep else ""
            text = f"{last}{{}} changed ({inner})" if inner else f"{last}{{}} changed"
        else:
            text = f"{last} changed {_value(before)} → {_value(after)}"
        told.setdefault(text, []).append(model)
    everyone = sum(isinstance(entry, Mapping) for entry in _models(new))
    lines = [
        text.replace("{}", "" if len(models) >= everyone or not all(models) else f" of {', '.join(models)}", 1)
        for text, models in told.items()
    ]
    more = len(lines) - TOLD
    return ", ".join(lines[:TOLD]) + (f" and {more} more" if more > 0 else "")


def _models(inputs: Mapping[str, JSON]) -> list[Any]:
    models = inputs.get("models")
    return list(models) if isinstance(models, (list, tuple)) else []


def _code(changed: Sequence[tuple[str, JSON, JSON]], files: Mapping[str, str]) -> list[str]:
    """What became of the functions that a study declares, file by file; a function that is gone has none."""
    told: dict[str, list[str]] = {}
    for name, before, after in changed:
        if name.startswith(CODE):
            what = "changed" if before and after else "is new" if after else "is gone"
            file = f"{files[str(after)]}: " if str(after) in files else ""
            told.setdefault(f"{file}{CODE}{{}} {what}", []).append(name.removeprefix(CODE))
    return [text.replace("{}", " and ".join(names)) for text, names in told.items()]


def _inner(
    store: Store,
    kind: str,
    before: str,
    after: str,
    planned: Mapping[str, Mapping[str, JSON]],
    files: Mapping[str, str],
) -> str:
    """What sets two steps apart that are themselves inputs."""
    old, new = store.manifest(StepKey(kind, before, {})), planned.get(after)
    return _told(store, old.inputs, new, planned, files, deep=False) if old is not None and new is not None else ""


def _changed(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[tuple[str, JSON, JSON]]:
    names = [*new, *(name for name in old if name not in new)]
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def _value(value: JSON) -> str:
    if value is None:
        return "none"
    return str(value)[:8] if _is_digest(value) else str(value)


def _is_digest(value: JSON) -> bool:
    return isinstance(value, str) and len(value) >= 20 and all(letter in "0123456789abcdef" for letter in value)


def _flat(inputs: Mapping[str, Any]) -> dict[str, JSON]:
    return dict(_leaves(inputs, "", ""))


def _leaves(inputs: Mapping[str, Any], model: str, prefix: str) -> Iterator[tuple[str, JSON]]:
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, model, f"{prefix}{name}.")
        elif name == "models" and isinstance(value, (list, tuple)):
            for entry in value:
                steps = {key: item for key, item in entry.items() if key != "name"}
                yield from _leaves(steps, f"{str(entry['name']).replace('/', '|')}/", "")
            yield "models", [entry["name"] for entry in value]
        else:
            yield f"{model}{prefix}{name}".replace("provenance.", "").replace("settings.", ""), value
