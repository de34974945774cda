"""The inputs of a step, leaf by leaf, so that two of them can be told apart. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from indexscope.storage.store.json_types import JSON


def differences(old: Mapping[str, JSON], new: Mapping[str, JSON]) -> list[tuple[str, JSON, JSON]]:
    """Name, old and new value of every leaf that differs."""
    names = [*new, *(name for name in old if name not in new)]
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def shown(value: JSON) -> str:
    """A value for people; a digest by its beginning."""
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)) and is_digest(value):
        return ", ".join(map(shown, value))
    return str(value)[:8] if is_digest(value) else str(value)


def is_digest(value: JSON) -> bool:
    """Whether a value is the hexadecimal digest of something, or several."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(is_digest, value))
    return isinstance(value, str) and len(value) >= 20 and all(letter in "0123456789abcdef" for letter in value)


def flat(inputs: Mapping[str, Any]) -> dict[str, JSON]:
    """The leaves of a step's inputs by name; those of a model begin with its name and a slash."""
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
