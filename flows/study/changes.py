"""What sets one result of a study apart from the one before, told from what is kept of both: no step need be left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from indexscope.flows.engine.input_changes import differences, flat, shown
from indexscope.storage.store.json_types import JSON

#: Differences that are told; the others are counted.
TOLD = 4
AGAIN = "the same inputs computed anew"
#: Settings that are told by what they name: checkpoints by their fingerprints, the dataset by its own, gates by name.
ELSEWHERE = ("baseline", "candidates", "gates", "plugins")
Inputs = Mapping[str, Any]


def inputs_of(key: Mapping[str, JSON], report: Mapping[str, Any]) -> dict[str, JSON]:
    """What is kept of a result's inputs.

    Args:
        key: Inputs of the report's step.
        report: The content of its ``report.json``.
    """
    provenance = key.get("provenance")
    settled = dict(provenance) if isinstance(provenance, Mapping) else {}
    results = {name: value for name, value in key.items() if name != "provenance"}
    return {**settled, "machine": report["provenance"].get("machine"), "results": results}


def told_changes(old: Inputs | None, new: Inputs | None) -> str:
    """What sets the newer of two results apart, the cause before its consequences; a few words each."""
    if old is None or new is None:
        return ""
    told = list(dict.fromkeys(_told(old, new)))
    if not told:
        told = [_computed(old, new)]
    more = len(told) - TOLD
    return ", ".join(told[:TOLD]) + (f" and {more} more" if more > 0 else "")


def _told(old: Inputs, new: Inputs) -> Iterator[str]:
    yield from _models(old, new)
    yield from _dataset(_mapping(old, "dataset"), _mapping(new, "dataset"))
    ours, theirs = _mapping(old, "settings"), _mapping(new, "settings")
    for name, before, after in differences(_plain(ours), _plain(theirs)):
        yield (
            f"{name} changed"
            if isinstance(after, (list, tuple))
            else f"{name} changed {shown(before)} → {shown(after)}"
        )
    yield from _gates(ours, theirs)
    for file, _, _ in differences(_mapping(old, "plugins"), _mapping(new, "plugins")):
        yield f"plug-ins of {file} changed"
    for package, before, after in differences(_mapping(old, "versions"), _mapping(new, "versions")):
        yield f"{package} {shown(before)} → {shown(after)}"
    for part, before, after in differences(_mapping(old, "machine"), _mapping(new, "machine")):
        yield f"the machine's {part} {shown(before)} → {shown(after)}"


def _models(before: Inputs, after: Inputs) -> Iterator[str]:
    old, new = (_mapping(inputs, "checkpoints") for inputs in (before, after))
    failed_before, failed = (_mapping(inputs, "missing") for inputs in (before, after))
    for name in failed:
        if name not in failed_before:
            yield f"{name} failed"
    for name in (*old, *failed_before):
        if name not in new and name not in failed:
            yield f"{name} left the study"
    for name, model in new.items():
        if name in failed_before:
            yield f"{name} has a result again"
        elif name not in old:
            yield f"{name} joined the study"
        elif old[name]["fingerprint"] != model["fingerprint"]:
            yield f"checkpoint of {name} changed {old[name]['fingerprint'][:8]} → {model['fingerprint'][:8]}"
        elif old[name]["role"] != model["role"]:
            yield f"{name} became the {model['role']}"


def _dataset(old: Inputs, new: Inputs) -> Iterator[str]:
    if old.get("fingerprint") != new.get("fingerprint"):
        before, after = old.get("samples"), new.get("samples")
        yield "dataset changed" + (f" ({before} → {after} samples)" if before != after else "")


def _plain(settings: Inputs) -> dict[str, JSON]:
    return flat({name: value for name, value in settings.items() if name not in ELSEWHERE})


def _gates(old: Inputs, new: Inputs) -> Iterator[str]:
    before, after = ({gate["name"]: gate["rule"] for gate in settings.get("gates") or ()} for settings in (old, new))
    for name, rule in after.items():
        if name not in before:
            yield f"gate {name} was set"
        elif before[name] != rule:
            yield f"gate {name} changed {before[name]} → {rule}"
    yield from (f"gate {name} was dropped" for name in before if name not in after)


def _computed(old: Inputs, new: Inputs) -> str:
    """What only the addresses of results tell: that a newer Indexscope computes something another way."""
    names = [
        name.rpartition("/")[2]
        for name, _, _ in differences(flat(_mapping(old, "results")), flat(_mapping(new, "results")))
    ]
    ways = ["report" if name == "version" else name for name in dict.fromkeys(names)]
    if not ways:
        return AGAIN
    more = len(ways) - TOLD
    return f"another way of computing: {', '.join(ways[:TOLD])}" + (f" and {more} more" if more > 0 else "")


def _mapping(inputs: Inputs, name: str) -> dict[str, Any]:
    found = inputs.get(name)
    return dict(found) if isinstance(found, Mapping) else {}
