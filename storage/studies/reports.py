"""Reports: their files, written so that report.json appears last, and read back with checks, wherever they are.

``report.json`` is what a report's numbers are handed on by. A file that a colleague sent and a report in a store go
through `parse_report`, and nothing else reads them: the tables of a store hold the same numbers, but a second way to
them would have to be kept in step with what the page says of them (verdict, warnings, definitions, which rows).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any

from indexscope import __version__
from indexscope.errors import IndexscopeError
from indexscope.foreign import parse_json, reading
from indexscope.layout import REPORT_SCHEMA
from indexscope.storage.store.files import Staged, open_store
from indexscope.storage.store.keys import StepKey
from indexscope.storage.store.store import Store

REPORT = "report.json"
#: The parts of report.json and the type of each.
PARTS: dict[str, type] = {
    "study": str,
    "verdict": object,
    "models": list,
    "metrics": list,
    "comparisons": list,
    "gates": list,
    "causality": list,
    "provenance": dict,
}
#: Parts that reports of the first versions lack, and the type of each.
LATER: dict[str, type] = {"warnings": list, "definitions": list}
#: Fields that every row of a part must have.
FIELDS = {
    "models": {"name", "role", "fingerprint"},
    "metrics": {"model", "name", "layer", "value", "unit"},
    "comparisons": {"candidate", "metric", "baseline", "value", "difference"},
    "gates": {"name", "rule", "value", "passed"},
    "causality": {"model", "passed"},
    "definitions": {"name", "unit", "better"},
    "warnings": {"text"},
}
_TEXTS = {"name", "model", "metric", "candidate", "unit", "kind", "family", "meaning", "formula", "text", "rule"}
_NUMBERS = {"value", "baseline", "difference", "ci_low", "ci_high"}
_REMEDY = "make the report again with this version of indexscope"


def write_report(folder: str | os.PathLike[str], files: Mapping[str, bytes | str]) -> None:
    """Write the files of a report into a folder or URL; other files there are left alone.

    Every file is brought into safety first; then each appears whole, report.json last, so that a report that can be
    read is complete.

    Args:
        folder: Made if need be.
        files: Content by plain file name; text is written as UTF-8.

    Raises:
        IndexscopeError: The folder cannot be written.
        ValueError: A name is not a plain file name.
    """
    target = open_store(folder)
    staged: list[Staged] = []
    try:
        for name in sorted(files, key=lambda name: (name == REPORT, name)):
            if not name or "/" in name or "\\" in name or name.startswith("."):
                raise ValueError(f"{name!r} is not a plain file name")
            content = files[name]
            staged.append(target.stage(name, content.encode() if isinstance(content, str) else content))
        with target.refusals():
            while staged:
                staged[0].publish()
                del staged[0]
    finally:
        for leftover in staged:
            leftover.discard()


def read_report(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read report.json of a report folder, or a report given by its own path, which ends in .json.

    Raises:
        IndexscopeError: There is no report, a newer Indexscope wrote it, or a part is missing or of the wrong type.
    """
    text = os.fspath(folder)
    parent, _, last = text.replace(os.sep, "/").rpartition("/")
    is_file = last.endswith(".json")
    target = open_store((parent or ("/" if text.startswith("/") else ".")) if is_file else text)
    name = last if is_file else REPORT
    if not target.exists(name):
        reason = "there is no such file" if is_file else f"holds no {REPORT}"
        raise IndexscopeError(text, reason, "give the folder that `indexscope report` printed")
    with reading(text, "give a report's folder"):
        data = target.read(name)
    return parse_report(data, text)


def report_files(store: Store, key: StepKey) -> dict[str, str]:
    """Text of the files of a report in a store, by name."""
    return dict(store.read(key, "files").select("name", "content").iter_rows())


def parse_report(data: bytes | str, where: str) -> dict[str, Any]:
    """Read the content of a report.json.

    Args:
        data: What the file holds.
        where: The file, for messages.

    Raises:
        IndexscopeError: It is no JSON, a newer Indexscope wrote it, or a part is missing or of the wrong type.
    """
    report = parse_json(data, where, "make the report again", f"has an unreadable {REPORT}")
    _check(report, where)
    return dict(report)


def _check(report: object, where: str) -> None:
    if not isinstance(report, dict):
        raise IndexscopeError(where, f"has a {REPORT} that is not an object", _REMEDY)
    version = report.get("schema_version")
    if isinstance(version, int) and version > REPORT_SCHEMA:
        reason = f"was written with report schema {version}; Indexscope {__version__} knows up to {REPORT_SCHEMA}"
        raise IndexscopeError(where, reason, "upgrade indexscope")
    for part, kind in {**PARTS, **LATER}.items():
        if part not in report and part in PARTS:
            raise IndexscopeError(where, f"has a {REPORT} without {part!r}", _REMEDY)
        if part in report and not isinstance(report[part], kind):
            raise IndexscopeError(where, f"has a {REPORT} whose {part!r} is not a {kind.__name__}", _REMEDY)
    for part, fields in FIELDS.items():
        for number, row in enumerate(report.get(part, ())):
            if not isinstance(row, dict) or not fields <= row.keys():
                lacking = ", ".join(sorted(fields - row.keys())) if isinstance(row, dict) else "everything"
                raise IndexscopeError(where, f"has a {REPORT} whose {part}[{number}] lacks {lacking}", _REMEDY)
            for name, value in row.items():
                rule = _RULES.get(f"{part}.{name}") or _RULES.get(name)
                if rule is not None and not rule(value):
                    reason = f"has a {REPORT} whose {part}[{number}].{name} is {_shown(value)}"
                    raise IndexscopeError(where, reason, _REMEDY)


def _is_number(value: object) -> bool:
    """Whether it is null or a finite number: 1e999 is JSON, and infinite."""
    try:
        return value is None or (type(value) in (int, float) and math.isfinite(float(value)))  # type: ignore[arg-type]
    except OverflowError:
        return False


def _is_count(value: object, most: int) -> bool:
    return value is None or (type(value) is int and 0 <= value < most)


#: What the values of a field may be, in every part that has it or in the one that is named.
_RULES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_TEXTS, lambda value: isinstance(value, str)),
    **dict.fromkeys(_NUMBERS, _is_number),
    "role": lambda value: value in ("baseline", "candidate"),
    "better": lambda value: value is None or isinstance(value, bool),
    "definitions.better": lambda value: value in ("higher", "lower", "neither"),
    "layer": lambda value: _is_count(value, 1 << 15),
    "n": lambda value: _is_count(value, 1 << 31),
    "fingerprint": lambda value: value is None or isinstance(value, str),
    "passed": lambda value: value is None or isinstance(value, bool),
}


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"
