"""Dumps as Parquet: one row a query and layer, so that any tool can write one and rows may be of any length.

Columns: ``record`` (text or integer, what tells sequences apart), ``position`` (of the query, from 0), ``token`` (its
id), ``layer`` (the model's) and ``keys`` (a list of the selected positions). Rows are sorted by record, position and
layer; every position of a record has the same layers, and positions follow one another from 0 on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.selections.record import GUIDE, NONE, Found, Record, first_row, token_ids

SUFFIXES = (".parquet", ".pq")
INDEX, KEYS = ("record", "position", "token", "layer"), "keys"
#: Rows of the file that are read at once.
BATCH = 4096


def records(path: Path) -> Iterator[Found]:
    """The records of one file, from all columns but the keys.

    Raises:
        IndexscopeError: A column is missing, or rows are missing or out of order.
    """
    with reading(path, GUIDE), pq.ParquetFile(path) as file:
        missing = [name for name in (*INDEX, KEYS) if name not in file.schema_arrow.names]
        if missing:
            raise IndexscopeError(path, f"has no column {missing[0]}", GUIDE)
        kind = file.schema_arrow.field(KEYS).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
            raise IndexscopeError(path, f"has a column {KEYS} of {kind}, not of lists of integers", GUIDE)
        table = file.read(columns=list(INDEX))
    if not table.num_rows:
        raise IndexscopeError(path, "has no rows", GUIDE)
    if any(table.column(name).null_count for name in INDEX):
        raise IndexscopeError(path, "has empty cells beside its keys", GUIDE)
    with reading(path, GUIDE):
        codes = table.column("record").combine_chunks().dictionary_encode()
        number = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        position, token, layer = (
            table.column(name).to_numpy(zero_copy_only=False).astype(np.int64) for name in INDEX[1:]
        )
    starts = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [len(number)]])
    names = codes.dictionary.to_pylist()
    if len(starts) - 1 != len(names):
        raise IndexscopeError(path, "has rows of one record in two places", "sort it by record, position and layer")
    for begin, end in pairwise(starts):
        name = f"{path.name} record {names[number[begin]]}"
        yield _record(path, name, int(begin), position[begin:end], token[begin:end], layer[begin:end])


def _record(path: Path, name: str, offset: int, position: Any, token: Any, layer: Any) -> Found:
    count = int(np.argmax(position != position[0])) or len(position)
    named = layer[:count]
    rows, rest = divmod(len(position), count)
    whole = not rest and bool((np.diff(named) > 0).all())
    grid = (part.reshape(rows, count) for part in (position, layer, token)) if whole else ()
    for places, layers, tokens in [tuple(grid)] if whole else []:
        whole = (
            bool((places == places[0, 0] + np.arange(rows)[:, None]).all())
            and bool((layers == named).all())
            and bool((tokens == tokens[:, :1]).all())
        )
    if not whole:
        reason = "lacks rows, or has them out of order: every position needs a row for the same layers"
        raise IndexscopeError(f"{path} ({name})", reason, "sort it by record, position and layer")
    if position[0]:
        # The ids of what came before are not there, and without them nothing tells which sequence it is.
        raise IndexscopeError(f"{path} ({name})", f"begins at position {position[0]}", "give it from position 0 on")
    ids = token_ids(token[::count], f"{path} ({name})")
    first = first_row(len(ids), rows, None, name)
    place = {"offset": offset}
    layers_named = tuple(map(int, named))
    return Found(Record(name, str(path), "parquet", len(ids), first, rows, count, count, layers_named, place), ids)


class Reader:
    """Rows of a record; see `indexscope.storage.inputs.selections.record.Rows`. Going back begins the file anew."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._file: pq.ParquetFile | None = None
        self._batches: Iterator[Any] = iter(())
        self._held: list[tuple[int, pa.Array]] = []
        self._next = 0

    def read(self, first: int, last: int) -> NDArray[np.int32]:
        """Rows [rows, layers, keys], as wide as the longest of them."""
        layers = self.record.layers or 1
        begin = self.record.place["offset"] + first * layers
        end = begin + (last - first) * layers
        with reading(self.record.file, "write the dump again"):
            lists = self._lists(begin, end)
            lengths = np.fromiter((0 if one is None else len(one) for one in lists), np.int64, end - begin)
        width = max(1, int(lengths.max(initial=0)))
        found = np.full((end - begin, width), NONE, dtype=np.int64)
        flat = [one for one in lists if one is not None and len(one)]
        if flat:
            found[np.arange(width) < lengths[:, None]] = np.concatenate(flat)
        limits = np.iinfo(np.int32)
        return np.clip(found, limits.min, limits.max).astype(np.int32).reshape(last - first, layers, width)

    def _lists(self, begin: int, end: int) -> list[NDArray[np.int64] | None]:
        """The keys of some rows of the file."""
        if self._file is None or begin < (self._held[0][0] if self._held else self._next):
            self._open(begin)
        while self._next < end:
            batch = next(self._batches)
            keys = batch.column(0)
            if self._next + len(keys) > begin:
                self._held.append((self._next, keys))
            self._next += len(keys)
        self._held = [(at, keys) for at, keys in self._held if at + len(keys) > begin]
        found: list[NDArray[np.int64] | None] = []
        for at, keys in self._held:
            part = keys.slice(max(0, begin - at), max(0, min(len(keys), end - at) - max(0, begin - at)))
            found += [None if one.values is None else np.asarray(one.values, dtype=np.int64) for one in part]
        return found

    def _open(self, begin: int) -> None:
        """Begin at the row group that holds a row."""
        self.close()
        self._file = pq.ParquetFile(self.record.file)
        group, at = 0, 0
        while at + (size := self._file.metadata.row_group(group).num_rows) <= begin:
            group, at = group + 1, at + size
        groups = list(range(group, self._file.metadata.num_row_groups))
        self._batches = self._file.iter_batches(BATCH, row_groups=groups, columns=[KEYS])
        self._next, self._held = at, []

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None
