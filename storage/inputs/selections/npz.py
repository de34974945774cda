"""Dumps as .npz, one a sequence: ``input_ids`` [tokens] and ``selected`` [tokens, layers, k], -1 for no key.

Further arrays are taken where they are there: ``start``, the position of the first row, and ``layers``, the model's
layer that each layer of the array is. An array that was stored as it is (numpy.savez) is read where it lies; a
compressed one (numpy.savez_compressed) is read from its beginning on, in order.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from indexscope.errors import IndexscopeError
from indexscope.foreign import reading
from indexscope.storage.inputs.selections.arrays import LONGEST_HEADER, rows_of, selections_header
from indexscope.storage.inputs.selections.record import GUIDE, Found, Record, first_row, token_ids

SUFFIXES = (".npz",)
ROWS = "selected.npy"
#: Bytes that are skipped at once in a compressed array.
PIECE = 2**22
_LOCAL = 30


def records(path: Path) -> Iterator[Found]:
    """The one record of a file.

    Raises:
        IndexscopeError: It is none.
    """
    where = str(path)
    with reading(path, GUIDE), zipfile.ZipFile(path) as archive:
        members = set(archive.namelist())
        for name in ("input_ids.npy", ROWS):
            if name not in members:
                raise IndexscopeError(path, f"has no array {name.removesuffix('.npy')}", GUIDE)
        ids = token_ids(_small(archive, "input_ids.npy"), where)
        start = int(_small(archive, "start.npy")) if "start.npy" in members else None
        named = tuple(map(int, _small(archive, "layers.npy"))) if "layers.npy" in members else None
        with archive.open(ROWS) as member:
            header = selections_header(member.read(LONGEST_HEADER), where)
        info = archive.getinfo(ROWS)
        data = None
        if info.compress_type == zipfile.ZIP_STORED and archive.fp is not None:
            archive.fp.seek(info.header_offset + _LOCAL - 4)
            lengths = [int.from_bytes(archive.fp.read(2), "little") for _ in range(2)]
            data = info.header_offset + _LOCAL + sum(lengths)
    tokens, layers, keys = header.shape
    if info.file_size - header.size != tokens * layers * keys * header.dtype.itemsize:
        raise IndexscopeError(path, "is cut off", "write the dump again")
    if named is not None and len(named) != layers:
        raise IndexscopeError(path, f"names {len(named)} layers and holds {layers}", GUIDE)
    first = first_row(len(ids), tokens, start, where)
    place = {"header": header.size, "dtype": header.dtype.str, "data": data}
    yield Found(Record(path.name, where, "npz", len(ids), first, tokens, layers, layers * keys, named, place), ids)


def _small(archive: zipfile.ZipFile, name: str) -> NDArray[np.generic]:
    with archive.open(name) as member:
        found: NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
    return found


class Reader:
    """Rows of a record; see `indexscope.storage.inputs.selections.record.Rows`."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._archive: zipfile.ZipFile | None = None
        self._member: IO[bytes] | None = None
        self._at = 0

    def read(self, first: int, last: int) -> NDArray[np.int32]:
        """Rows [rows, numbers of a row]."""
        record, place = self.record, self.record.place
        size = record.width * np.dtype(place["dtype"]).itemsize
        begin, end = place["header"] + first * size, place["header"] + last * size
        with reading(record.file, "write the dump again"):
            data = self._streamed(begin, end) if place["data"] is None else self._stored(place["data"], begin, end)
        return rows_of(data, place["dtype"], last - first, record.name)

    def _stored(self, data: int, begin: int, end: int) -> bytes:
        with Path(self.record.file).open("rb") as file:
            file.seek(data + begin)
            return file.read(end - begin)

    def _streamed(self, begin: int, end: int) -> bytes:
        if self._member is None or begin < self._at:
            self.close()
            self._archive = zipfile.ZipFile(self.record.file)
            self._member, self._at = self._archive.open(ROWS), 0
        while self._at < begin and (skipped := self._member.read(min(PIECE, begin - self._at))):
            self._at += len(skipped)
        data = self._member.read(end - begin)
        self._at += len(data)
        return data

    def close(self) -> None:
        """Let go of the file."""
        for one in (self._member, self._archive):
            if one is not None:
                one.close()
        self._member = self._archive = None
