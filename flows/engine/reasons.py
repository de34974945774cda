"""Why a step runs: what was asked for, what is missing or damaged, or which input differs from the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from indexscope.flows.engine.contents import Contents
from indexscope.flows.engine.graph import OF_EACH, Graph, Node
from indexscope.flows.engine.input_changes import differences, flat, is_digest, shown
from indexscope.plugins import PluginFile
from indexscope.storage.store.json_types import JSON
from indexscope.storage.store.keys import SCHEMA_VERSION
from indexscope.storage.store.store import Manifest, StepKey, Store
from indexscope.tasks.common.registry import STEPS
from indexscope.tasks.common.unit import is_stale

#: Differences that are told; the others are counted.
TOLD = 3
#: What begins the name of an input that is the checksum of the file of a declared function.
CODE = "code of "
NOVEL = "not in the store"


def why(
    node: Node,
    graph: Graph,
    store: Store,
    refresh: Set[str],
    contents: Contents,
    plugins: Sequence[PluginFile] = (),
) -> str:
    """Why a result would be made now; empty if it would not.

    Args:
        node: The result.
        graph: All results of the study.
        store: Where they are.
        refresh: Steps to compute even if the store has them.
        contents: What the store holds.
        plugins: Files of the study's plug-ins, by whose names a change of them is told.
    """
    if node.step.name in refresh:
        return f"asked for by --refresh {node.step.name}"
    lacking = store.lacking(node.key, node.units)
    damaged = [unit for unit, status in lacking.items() if status == "damaged"]
    if damaged:
        return f"{_first(damaged)} damaged, of {len(node.units)}"
    if not lacking:
        made_from = contents.made_from(node)
        records = store.records(node.key, node.units) if made_from is not None else ()
        stale = any(is_stale(record, made_from) for record in records)
        return "made from other results than the store has now" if stale else ""
    if len(lacking) < len(node.units):
        return f"{len(lacking)} of {len(node.units)} missing"
    return _novelty(node, graph, store, {file.digest: file.name for file in plugins})


def _first(units: list[str]) -> str:
    return units[0] if len(units) == 1 else f"{units[0]} and {len(units) - 1} more"


def _novelty(node: Node, graph: Graph, store: Store, files: Mapping[str, str]) -> str:
    """What sets a result apart from the most similar one of its kind: of the same label or sources."""
    planned = {one.key.digest: one.key.inputs for one in graph}  # those that are new have no manifest yet
    ranked = []
    for digest in store.digests(node.key.kind):
        old = store.manifest(StepKey(node.key.kind, digest, {}))
        if old is None or old.digest == node.key.digest:
            continue
        changed = differences(flat(_hashed(old.inputs, old.schema_version)), flat(_hashed(node.key.inputs)))
        alike = old.label == node.label
        if changed and (alike or not any(is_digest(new) for _, _, new in changed)):
            ranked.append((not alike, len(changed), -_age(store, old), old))
    if not ranked:
        return NOVEL
    nearest = min(ranked, key=lambda entry: entry[:3])[3]
    return _told(store, _hashed(nearest.inputs, nearest.schema_version), _hashed(node.key.inputs), planned, files)


def _hashed(inputs: Mapping[str, JSON], schema_version: int = SCHEMA_VERSION) -> dict[str, JSON]:
    """All that makes a digest: an older store's results are not read but computed anew, and this tells that."""
    return {"store schema": schema_version, **inputs}


def _age(store: Store, manifest: Manifest) -> float:
    written = store.folder.child(f"{manifest.kind}/{manifest.digest}").modified("manifest.json")
    return written.timestamp() if written is not None else 0.0


def _told(
    store: Store,
    old: Mapping[str, JSON],
    new: Mapping[str, JSON],
    planned: Mapping[str, Mapping[str, JSON]],
    files: Mapping[str, str],
    deep: bool = True,
) -> str:
    changed = differences(flat(old), flat(new))
    told: dict[str, list[str]] = {text: [""] for text in _code(changed, files)}
    for name, before, after in changed:
        model, _, last = name.rpartition("/")
        if last.startswith(CODE):
            continue
        if last.endswith(OF_EACH):
            text = "models that it is fitted on changed"
        elif not is_digest(after):
            text = f"{last} changed {shown(before)} → {shown(after)}"
        elif last in STEPS:
            inner = _inner(store, STEPS[last].kind, str(before), str(after), planned, files) if deep else ""
            text = f"{last}{{}} changed ({inner})" if inner else f"{last}{{}} changed"
        else:
            text = f"{last} changed {shown(before)} → {shown(after)}"
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
