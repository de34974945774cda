"""The rows of a dump as the comparison reads them: a chunk of queries at a time, so that a dump of any size passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from numpy.typing import NDArray


class Rows(Protocol):
    """The rows of a record, numbered from its first one."""

    def read(self, first: int, last: int) -> NDArray[Any]:
        """Rows first .. last - 1 as integers, [rows, layers x keys] or [rows, layers, keys]; -1 for no key."""
        ...


@dataclass(frozen=True)
class Dumped:
    """What a dump has of one sample.

    Attributes:
        name: What people call the record.
        tokens: Tokens of the record.
        first: Position of the query that its first row is of.
        rows: Rows of the record.
        layers: Layers of a row.
        named: The model's layer that each of them is, where that is known.
        open: Opens the rows; what it gives is closed after the sample.
    """

    name: str
    tokens: int
    first: int
    rows: int
    layers: int
    named: tuple[int, ...] | None
    open: Callable[[], Rows]


Dump = Mapping[int, Dumped]
"""What a dump has, by the sample's index."""


@contextmanager
def opened(one: Dumped) -> Iterator[Slices]:
    """The rows of a record, closed after the block."""
    rows = one.open()
    try:
        yield Slices(one, rows)
    finally:
        getattr(rows, "close", lambda: None)()


class Slices:
    """Rows of a record by the positions of their queries; the last slice is kept for the layers that ask next."""

    def __init__(self, record: Dumped, rows: Rows) -> None:
        self.record, self._rows = record, rows
        self._held: tuple[int, int, NDArray[Any]] | None = None

    def within(self, start: int, stop: int) -> tuple[int, int]:
        """The part of some positions that has rows."""
        record = self.record
        return max(start, record.first), min(stop, record.first + record.rows)

    def layer(self, place: int, start: int, stop: int) -> torch.Tensor:
        """Keys of one layer at positions start .. stop - 1, which have rows, [queries, keys]."""
        if self._held is None or self._held[:2] != (start, stop):
            first = self.record.first
            read = self._rows.read(start - first, stop - first)
            self._held = start, stop, read.reshape(stop - start, self.record.layers, -1)
        return torch.from_numpy(self._held[2][:, place].copy())
