"""JSON as Python holds it: one type, one canonical text, one strict reader."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

#: Where an object that is sealed keeps the checksum of the rest.
SEAL = "sha256"
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"


def canonical_json(value: JSON) -> str:
    """Write equal values as equal text: sorted keys, no spaces, ASCII only.

    Raises:
        TypeError: A value that JSON cannot hold, named by its place; guessing at one would hide lost caching.
        ValueError: A number that is not finite.

    >>> canonical_json({"b": (1, 2), "a": None})
    '{"a":null,"b":[1,2]}'
    """
    return json.dumps(plain_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def pretty_json(value: JSON) -> bytes:
    """Write a value for people and machines alike: indented, sorted, UTF-8, newline at the end."""
    return (json.dumps(plain_json(value), sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def sealed_json(value: Mapping[str, JSON]) -> bytes:
    """Write an object with a checksum over itself, so that a changed byte is noticed by `is_sealed`."""
    return pretty_json({**value, SEAL: hashlib.sha256(canonical_json(value).encode()).hexdigest()})


def is_sealed(content: Mapping[str, JSON], data: bytes) -> bool:
    """Whether bytes are what `sealed_json` wrote, every one of them.

    Args:
        content: What the bytes hold.
        data: The bytes.
    """
    try:
        return sealed_json({key: value for key, value in content.items() if key != SEAL}) == data
    except (TypeError, ValueError):
        return False


def plain_json(value: object, where: str = "inputs") -> JSON:
    """Copy a value into plain dicts and lists, checking every leaf.

    Args:
        value: What is to be written.
        where: Name of the value in messages.
    """
    if value is None or type(value) in (bool, int, str):
        return value  # type: ignore[return-value]
    if type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold")
        return value
    if isinstance(value, Mapping):
        if not all(type(key) is str for key in value):
            raise TypeError(f"{where} has keys that are not strings")
        return {key: plain_json(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which has no canonical JSON form")
