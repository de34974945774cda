"""Provenance as a flat table: one row per setting, whatever its nesting."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from indexscope.analysis.report.json_report import finite
from indexscope.analysis.report.numbers import DASH

_LONGEST_LIST = 12


@dataclass(frozen=True)
class ProvenanceGroup:
    """One top-level entry of the provenance and its rows (dotted key, value as text)."""

    title: str
    rows: tuple[tuple[str, str], ...]


def provenance_groups(provenance: Mapping[str, Any]) -> list[ProvenanceGroup]:
    """The provenance in groups: nested mappings become groups, single values come together at the top."""
    single = tuple((str(key), _text(value)) for key, value in provenance.items() if not isinstance(value, Mapping))
    groups = [ProvenanceGroup("general", single)] if single else []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            groups.append(ProvenanceGroup(str(key), tuple(_rows(value, ""))))
    return groups


def _rows(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    if not value and prefix:
        yield prefix, "{}"
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(item, Mapping):
            yield from _rows(item, name)
        elif _is_list(item) and any(isinstance(part, Mapping) for part in item):
            for place, part in enumerate(item):
                yield from _rows(part if isinstance(part, Mapping) else {"": part}, f"{name}[{place}]")
        else:
            yield name, _text(item)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _text(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_list(value) and not any(isinstance(part, Mapping | list | tuple) for part in value):
        shown = ", ".join(_text(part) for part in value[:_LONGEST_LIST])
        return f"{shown}, … ({len(value)} in all)" if len(value) > _LONGEST_LIST else shown or "none"
    return json.dumps(finite(value), ensure_ascii=False, allow_nan=False)
