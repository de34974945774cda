"""Responses of a server as JSON, one a line, without ever holding the long texts of base64 in them."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexscope.errors import IndexscopeError
from indexscope.foreign import parse_json, reading
from indexscope.storage.inputs.selections.record import GUIDE

_BEGINS = re.compile(rb'"indexer_topk"\s*:\s*"')
#: What takes the place of a long text while its surroundings are parsed.
_MARK = "@indexer_topk:"
REMEDY = "write one JSON object a line, as the server answered"


@dataclass(frozen=True)
class Text:
    """A base64 text within a file: offsets of its first character and of the one after its last."""

    start: int
    stop: int


@dataclass(frozen=True)
class Line:
    """One response.

    Attributes:
        number: Its place in the file, from 1.
        content: What it says, each ``indexer_topk`` a `Text`.
    """

    number: int
    content: dict[str, Any]


def lines_of(path: Path) -> Iterator[Line]:
    """The responses of a file, in order. A file .json is one response, otherwise every line that is not blank is one.

    The texts of base64 are found and skipped by their quotes; only what is around them is read.

    Raises:
        IndexscopeError: The file cannot be read, or a line is no JSON object.
    """
    with reading(path, REMEDY), path.open("rb") as file:
        if not file.seek(0, 2):
            raise IndexscopeError(path, "is empty", GUIDE)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start, number, size = 0, 0, len(data)
            whole = path.suffix.lower() == ".json"
            while start < size:
                stop = size if whole else _end(data, start)
                number += 1
                around, texts = _without_texts(data, start, stop, path)
                if around.strip():
                    yield Line(number, _parsed(around, texts, f"{path} line {number}"))
                start = stop + 1


def _end(data: mmap.mmap, start: int) -> int:
    found = data.find(b"\n", start)
    return len(data) if found < 0 else found


def _without_texts(data: mmap.mmap, start: int, stop: int, path: Path) -> tuple[bytes, list[Text]]:
    """A stretch of a file with each long text replaced by a mark, and where those texts lie."""
    parts: list[bytes] = []
    texts: list[Text] = []
    while (found := _BEGINS.search(data, start, stop)) is not None:
        end = data.find(b'"', found.end(), stop)
        if end < 0:
            raise IndexscopeError(path, "ends within the text of indexer_topk", "write the dump again")
        parts += [data[start : found.end()], f"{_MARK}{len(texts)}".encode()]
        texts.append(Text(found.end(), end))
        start = end
    return b"".join([*parts, data[start:stop]]), texts


def _parsed(around: bytes, texts: list[Text], where: str) -> dict[str, Any]:
    content = _with_texts(parse_json(around, where, REMEDY), texts)
    if not isinstance(content, dict):
        raise IndexscopeError(where, "is no JSON object", REMEDY)
    return content


def _with_texts(value: Any, texts: list[Text]) -> Any:
    if isinstance(value, dict):
        return {name: _with_texts(item, texts) for name, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [_with_texts(item, texts) for item in value]
    if isinstance(value, str) and value.startswith(_MARK) and value[len(_MARK) :].isdecimal():
        return texts[int(value[len(_MARK) :])]
    return value
