"""Dumps of SGLang: answers of its own endpoint /generate, one a line.

Started with ``--enable-return-indexer-topk`` and asked with ``"return_indexer_topk": true``, it answers with
``meta_info.indexer_topk``: base64 of int32 numbers [tokens - 1, layers, k], no header. Read from its sources:
``python/sglang/srt/state_capturer/indexer_topk.py`` at 02d3f4b2df5480f1a9767c88d76c8112d7b008d4 (the encoding, and that
the caller reshapes), ``python/sglang/srt/state_capturer/base.py`` at 0564b5215b333749d722348c3b3d9b92c3de8c44 (rows of
positions 0 .. seqlen - 2) and ``test/registered/rl/test_return_indexer_topk.py`` at
05f70dc503324fcbc7cb999e78ab990f27a9597e (-1 is padding; a layer that shares a selection repeats it).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexscope.errors import IndexscopeError
from indexscope.storage.inputs.selections.base64_text import decoded, decoded_size
from indexscope.storage.inputs.selections.json_lines import Text, lines_of
from indexscope.storage.inputs.selections.record import GUIDE, Found, Record, first_row, token_ids

SUFFIXES = (".jsonl", ".ndjson", ".json")
ITEM = np.dtype("<i4").itemsize


def records(path: Path) -> Iterator[Found]:
    """The records of one file.

    Token ids are ``input_ids`` (the prompt's, which the answer does not repeat and the user adds) and ``output_ids``.

    Raises:
        IndexscopeError: A line holds no selection, or its size does not fit its tokens.
    """
    for line in lines_of(path):
        where = f"{path} line {line.number}"
        about = line.content.get("meta_info")
        about = about if isinstance(about, dict) else {}
        text = about.get("indexer_topk", line.content.get("indexer_topk"))
        if not isinstance(text, Text):
            raise IndexscopeError(where, "has no meta_info.indexer_topk", GUIDE)
        prompt, output = line.content.get("input_ids"), line.content.get("output_ids") or []
        if prompt is None:
            raise IndexscopeError(where, "has no input_ids", "add the token ids of the prompt to each answer")
        ids = token_ids([*prompt, *output] if isinstance(prompt, list) and isinstance(output, list) else None, where)
        size = decoded_size(path, text.start, text.stop, where)
        start = line.content.get("start")
        rows, width = _shape(size, len(ids), 0 if start is None else start, where)
        layers = about.get("indexer_topk_num_layers")
        if layers is not None and (type(layers) is not int or layers < 1 or width % layers):
            raise IndexscopeError(where, f"has {width} numbers a token, which {layers} layers do not divide", GUIDE)
        first = first_row(len(ids), rows, start, where)
        name = f"{path.name} line {line.number}"
        yield Found(
            Record(name, str(path), "sglang", len(ids), first, rows, layers, width, place={"start": text.start}), ids
        )


def _shape(size: int, tokens: int, start: object, where: str) -> tuple[int, int]:
    """Rows, and numbers of a row: the array has no header, so that the tokens tell how many rows it has."""
    numbers, rest = divmod(size, ITEM)
    begins = start if isinstance(start, int) and start >= 0 else 0
    # The last token was sampled and never fed; where the server fed it too, there is a row more.
    for rows in (tokens - 1 - begins, tokens - begins):
        if rows > 0 and not rest and numbers and numbers % rows == 0:
            return rows, numbers // rows
    raise IndexscopeError(where, f"has {size} bytes of selections, which {tokens} tokens do not divide", GUIDE)


class Reader:
    """Rows of a record; see `indexscope.storage.inputs.selections.record.Rows`."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def read(self, first: int, last: int) -> NDArray[np.int32]:
        """Rows [rows, numbers of a row]."""
        record = self.record
        size = record.width * ITEM
        before = record.place.get("header", 0)
        data = decoded(
            Path(record.file), record.place["start"], before + first * size, before + last * size, record.name
        )
        return np.frombuffer(data, "<i4").reshape(last - first, record.width)

    def close(self) -> None:
        """Nothing is open between two reads."""
