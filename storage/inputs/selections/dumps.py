"""A dump is a file or a folder: its records, and a reader for each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.selections import npz, parquet, sglang, vllm
from indexscope.storage.inputs.selections.names import FORMATS, Format
from indexscope.storage.inputs.selections.record import GUIDE, Found, Record, Rows


@dataclass(frozen=True)
class _Kind:
    suffixes: tuple[str, ...]
    records: Callable[[Path], Iterator[Found]]
    reader: Callable[[Record], Rows]


_KINDS: Mapping[str, _Kind] = {
    name: _Kind(module.SUFFIXES, module.records, module.Reader)
    for name, module in (("sglang", sglang), ("vllm", vllm), ("parquet", parquet), ("npz", npz))
}


def dump_files(path: str | os.PathLike[str], form: Format) -> list[Path]:
    """The files of a dump, by name: the file itself, or those of a folder, at any depth, that are of its format.

    Raises:
        IndexscopeError: There are none.
    """
    text = os.path.expanduser(os.fspath(path))
    suffixes = _KINDS[form].suffixes
    if os.path.isfile(text):
        return [Path(text)]
    if not os.path.isdir(text):
        raise IndexscopeError(path, "does not exist", "give the file or folder that holds the dump")
    found = sorted(
        file for file in Path(text).rglob("*") if file.name.lower().endswith(suffixes) and not _hidden(file, text)
    )
    if not found:
        reason = f"has no file of the format {form} ({', '.join(suffixes)})"
        raise IndexscopeError(path, reason, f"choose another format ({', '.join(FORMATS)}), or another folder")
    return found


def list_records(path: str | os.PathLike[str], form: Format) -> list[Found]:
    """The records of a dump with their token ids; no selection is read.

    Raises:
        IndexscopeError: There are none, or one is malformed, which is named.
    """
    found = [one for file in dump_files(path, form) for one in _KINDS[form].records(file)]
    if not found:
        raise IndexscopeError(path, "holds no record", GUIDE)
    return found


def open_rows(record: Record) -> Rows:
    """A reader of one record's rows."""
    return _KINDS[record.format].reader(record)


def _hidden(file: Path, folder: str) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
