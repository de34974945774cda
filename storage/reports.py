"""Reports on disk: the files of one report, written so that its JSON appears last, and read back with checks."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from indexscope.errors import IndexscopeError
from storage.files import Staged, open_store

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
#: Fields that every row of a part must have.
FIELDS = {
    "models": {"name", "role", "fingerprint"},
    "metrics": {"model", "name", "layer", "value", "unit"},
    "comparisons": {"candidate", "metric", "baseline", "value", "difference"},
    "gates": {"name", "rule", "value", "passed"},
    "causality": {"model", "passed"},
}


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
        while staged:
            staged[0].publish()
            del staged[0]
    finally:
        for leftover in staged:
            leftover.discard()


def read_report(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read report.json of a report folder, or a report.json given by its own path.

    Raises:
        IndexscopeError: There is no report, or a part of it is missing or of the wrong type.
    """
    text = os.fspath(folder)
    parent, _, last = text.replace(os.sep, "/").rpartition("/")
    target = open_store((parent or ".") if last == REPORT else text)
    try:
        data = target.read(REPORT)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IndexscopeError(text, f"holds no {REPORT}", "give the folder that `indexscope report` printed") from error
    try:
        # JSON has no NaN; a file that has one was not written by Indexscope.
        report = json.loads(data, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise IndexscopeError(text, f"has an unreadable {REPORT} ({error})", "make the report again") from error
    _check(report, text)
    return dict(report)


def _check(report: object, where: str) -> None:
    remedy = "make the report again with this version of indexscope"
    if not isinstance(report, dict):
        raise IndexscopeError(where, f"has a {REPORT} that is not an object", remedy)
    for part, kind in PARTS.items():
        if part not in report:
            raise IndexscopeError(where, f"has a {REPORT} without {part!r}", remedy)
        if not isinstance(report[part], kind):
            raise IndexscopeError(where, f"has a {REPORT} whose {part!r} is not a {kind.__name__}", remedy)
    for part, fields in FIELDS.items():
        for number, row in enumerate(report[part]):
            if not isinstance(row, dict) or not fields <= row.keys():
                lacking = ", ".join(sorted(fields - row.keys())) if isinstance(row, dict) else "everything"
                raise IndexscopeError(where, f"has a {REPORT} whose {part}[{number}] lacks {lacking}", remedy)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
