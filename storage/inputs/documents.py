"""Documents of a dataset, read as a stream: a file is never held whole unless it is one short text."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.data_files import DataFile, Format
from indexscope.storage.inputs.evidence import KIND, SPANS, Evidence, marks_in
from indexscope.storage.inputs.samples import CUT_FROM

PRETOKENIZED = "input_ids"
#: Rows of Parquet held at once.
BATCH_ROWS = 256
#: A text longer than this, in bytes, is read as several documents.
LONGEST_TEXT = 4 * 2**20


@dataclass(frozen=True)
class Document:
    """One text, or one list of token ids, the name that it is known by, and what it marks in its content."""

    name: str
    content: str | tuple[int, ...]
    marks: Evidence | None = None


def documents(files: Sequence[DataFile], column: str) -> Iterator[Document]:
    """Read documents file by file; empty and null ones are left out.

    Args:
        files: The files, in the order in which they are to be read.
        column: Key or column of the content. Where it is "text" and absent, input_ids is taken if that is there.

    Raises:
        IndexscopeError: A file is not what its name says, or a row has no such column or the wrong type in it.
    """
    for file in files:
        # Whatever a decompressor, a parser or a disk raises: the caller's own errors do not come by here.
        with reading(file.name, "check the file"):
            yield from READERS[file.format](file, column)


def _jsonl(file: DataFile, column: str) -> Iterator[Document]:
    with file.open() as lines:
        for number, line in enumerate(lines, start=1):
            where = f"{file.name}:{number}"
            if not line.strip():
                continue
            with reading(where, "write one JSON object a line", "is not JSON"):
                # Not strict: what other keys hold is no business of ours.
                row = json.loads(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
            if not isinstance(row, dict):
                raise IndexscopeError(where, "is not a JSON object", "write one JSON object a line")
            name = column_in(list(row), column, where)
            known = row.get(CUT_FROM)
            for document in _document(row, name, where):
                yield replace(document, name=known) if isinstance(known, str) and known else document


def _parquet(file: DataFile, column: str) -> Iterator[Document]:
    with file.open() as opened, reading(file.name, "write it again", "is not a readable Parquet file"):
        table = pq.ParquetFile(opened)
        name = column_in(table.schema_arrow.names, column, file.name)
        row = 0
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=[name, *_marking(table.schema_arrow, name)]):
            for values in batch.to_pylist():
                yield from _document(values, name, f"{file.name}:{row}")
                row += 1


def _text(file: DataFile, _: str) -> Iterator[Document]:
    with file.open() as opened:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        part = 0
        while True:
            data = opened.read(LONGEST_TEXT)
            with reading(file.name, "convert it to UTF-8, or take it out of the folder", "is not UTF-8 text"):
                text = decoder.decode(data, final=not data)
            if text.strip():
                yield Document(f"{file.name}#{part}" if part else file.name, text)
            if not data:
                return
            part += 1


READERS: dict[Format, Callable[[DataFile, str], Iterator[Document]]] = {
    "parquet": _parquet,
    "jsonl": _jsonl,
    "text": _text,
}


def column_in(names: Sequence[str], column: str, where: str) -> str:
    """Choose the column that is read.

    Raises:
        IndexscopeError: It is not there; the message names those that are.
    """
    if column in names:
        return column
    if column == "text" and PRETOKENIZED in names:
        return PRETOKENIZED
    shown = ", ".join(sorted(names)[:20]) or "none"
    raise IndexscopeError(where, f"has no column {column!r}", f"set column to one of: {shown}")


def _marking(schema: pa.Schema, column: str) -> list[str]:
    """Columns that may mark evidence: of these names, and of a type that spans have."""
    lists = [name for name in SPANS if name in schema.names and name != column and _is_list(schema.field(name).type)]
    return [*lists, KIND] if lists and KIND in schema.names and column != KIND else lists


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _document(row: Mapping[str, Any], column: str, where: str) -> Iterator[Document]:
    value = row[column]
    if value is None or value == "" or value == []:
        return
    if isinstance(value, str):
        # Lone surrogates can be written in JSON but are no text.
        yield Document(where, value.encode("utf-8", "replace").decode(), marks_in(row, value, where))
    elif isinstance(value, list) and all(type(token) is int for token in value):
        yield Document(where, tuple(value), marks_in(row, value, where))
    else:
        reason = f"column {column!r} holds {_kind(value)}, neither text nor a list of token ids"
        raise IndexscopeError(where, reason, "choose another column")


def _kind(value: Any) -> str:
    return "a list of other things" if isinstance(value, list) else f"a {type(value).__name__}"
