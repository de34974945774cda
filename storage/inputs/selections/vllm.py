"""Dumps of vLLM: its answers as JSON lines, or one array .npy a sequence with the token ids beside it.

Started with ``--enable-return-indexer-topk``, its OpenAI endpoints answer with ``choices[i].indexer_topk``: base64 of a
.npy array, int32 [tokens, indexer layers, k], -1 for no key. Layers that share a selection have no row of their own.
Keys are positions within the request: the kernels write them relative to the row's start. Read from the code of
vllm-project/vllm#49555, which was not merged then: ``IndexerTopkCapturer`` and ``IndexerTopkManager`` (beside
``vllm/model_executor/layers/sparse_attn_indexer.py``, which was read at 00475076bd272604090a69912b2782ff68ad46a2 of
aoshen02/vllm), and its end-to-end test of ``/v1/completions`` and ``/v1/chat/completions``. How many rows the scheduler
returns for a sequence (every token, or every one but the last) was not found there, so that both are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexscope.errors import IndexscopeError
from indexscope.foreign import read_json, reading
from indexscope.storage.inputs.selections.arrays import LONGEST_HEADER, rows_of, selections_header
from indexscope.storage.inputs.selections.base64_text import decoded, decoded_size
from indexscope.storage.inputs.selections.json_lines import Line, Text, lines_of
from indexscope.storage.inputs.selections.record import GUIDE, Found, Integers, Record, first_row, token_ids

SUFFIXES = (".npy", ".jsonl", ".ndjson", ".json")
#: What the files beside NAME.npy are called that hold its token ids.
IDS, IDS_JSON = ".tokens.npy", ".json"
_IDS_KEYS = (("input_ids", ""), ("prompt_token_ids", "token_ids"), ("prompt_token_ids", "output_token_ids"))


def records(path: Path) -> Iterator[Found]:
    """The records of one file; a file that holds the token ids of another has none.

    Raises:
        IndexscopeError: A record is malformed, or has no token ids.
    """
    if path.suffix.lower() == ".npy":
        if not path.name.endswith(IDS):
            yield _array(path)
    elif not path.with_suffix(".npy").is_file():
        for line in lines_of(path):
            yield from _choices(path, line)


def _array(path: Path) -> Found:
    with reading(path, GUIDE), path.open("rb") as file:
        beginning, size = file.read(LONGEST_HEADER), file.seek(0, 2)
    header = selections_header(beginning, str(path))
    tokens, layers, keys = header.shape
    if size - header.size != tokens * layers * keys * header.dtype.itemsize:
        raise IndexscopeError(path, "is cut off", "write the dump again")
    ids, start = _beside(path)
    first = first_row(len(ids), tokens, start, str(path))
    place = {"header": header.size, "dtype": header.dtype.str}
    return Found(Record(path.name, str(path), "vllm", len(ids), first, tokens, layers, layers * keys, place=place), ids)


def _beside(path: Path) -> tuple[Integers, object]:
    """Token ids of an array, and where its rows begin, from the file beside it."""
    own = path.with_suffix(IDS)
    if own.is_file():
        with reading(own, GUIDE):
            return token_ids(np.load(own, allow_pickle=False), str(own)), None
    content = path.with_suffix(IDS_JSON)
    if not content.is_file():
        reason = f"has no token ids beside it ({own.name} or {content.name})"
        raise IndexscopeError(path, reason, "save the ids of prompt and answer there")
    found = read_json(content, GUIDE)
    if isinstance(found, list):
        return token_ids(found, str(content)), None
    if not isinstance(found, dict):
        raise IndexscopeError(content, "has no list of token ids", GUIDE)
    return _ids(found, {}, str(content)), _start(found)


def _choices(path: Path, line: Line) -> Iterator[Found]:
    """The records of one answer: one for each of its choices."""
    choices = line.content.get("choices")
    choices = choices if isinstance(choices, list) else [line.content]
    for number, choice in enumerate(choices):
        where = f"{path} line {line.number}" + (f" choice {number}" if len(choices) > 1 else "")
        text = choice.get("indexer_topk") if isinstance(choice, dict) else None
        if not isinstance(text, Text):
            raise IndexscopeError(where, "has no indexer_topk", GUIDE)
        ids = _ids(choice, line.content, where)
        size = decoded_size(path, text.start, text.stop, where)
        header = selections_header(decoded(path, text.start, 0, min(size, LONGEST_HEADER), where), where)
        tokens, layers, keys = header.shape
        if size - header.size != tokens * layers * keys * header.dtype.itemsize:
            raise IndexscopeError(where, "is cut off", "write the dump again")
        start = _start(choice)
        first = first_row(len(ids), tokens, _start(line.content) if start is None else start, where)
        name = where.replace(str(path), path.name)
        place = {"header": header.size, "dtype": header.dtype.str, "start": text.start}
        yield Found(Record(name, str(path), "vllm", len(ids), first, tokens, layers, layers * keys, place=place), ids)


def _start(content: dict[str, Any]) -> object:
    return content.get("indexer_topk_prompt_start", content.get("start"))


def _ids(own: dict[str, Any], around: dict[str, Any], where: str) -> Integers:
    """Token ids of prompt and answer, which a server gives that is asked for ``return_token_ids``."""
    for prompt, output in _IDS_KEYS:
        first = own.get(prompt, around.get(prompt))
        if isinstance(first, list) and (not output or output in own):
            rest = own.get(output) if output else []
            return token_ids([*first, *rest] if isinstance(rest, list) else None, where)
    raise IndexscopeError(where, "has no token ids", 'ask the server with "return_token_ids": true')


class Reader:
    """Rows of a record; see `indexscope.storage.inputs.selections.record.Rows`."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def read(self, first: int, last: int) -> NDArray[np.int32]:
        """Rows [rows, numbers of a row]."""
        record, place = self.record, self.record.place
        size = record.width * np.dtype(place["dtype"]).itemsize
        begin, end = place["header"] + first * size, place["header"] + last * size
        path = Path(record.file)
        if "start" in place:
            data = decoded(path, place["start"], begin, end, record.name)
        else:
            with reading(path, "write the dump again"), path.open("rb") as file:
                file.seek(begin)
                data = file.read(end - begin)
        return rows_of(data, place["dtype"], last - first, record.name)

    def close(self) -> None:
        """Nothing is open between two reads."""
