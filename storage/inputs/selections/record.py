"""One record of a dump: the tokens that it was made of, and where its rows lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from indexscope.errors import IndexscopeError

Integers = NDArray[np.int64]
#: No key: what fills a row up to its width.
NONE = -1
#: Token ids beyond this are no ids.
LARGEST_ID = 2**31 - 1
GUIDE = "see docs/selections.md for what a dump must hold"


@dataclass(frozen=True)
class Record:
    """Where the selections of one sequence lie: small, picklable, and without its token ids.

    Attributes:
        name: File and record, for people: "dump.jsonl record 3".
        file: Path of the file that holds the rows.
        format: How the file is read.
        tokens: Tokens of the sequence.
        first: Position of the query that the first row is of.
        rows: Queries that have rows.
        layers: Layers of a row; None where the format does not say how ``width`` divides.
        width: Numbers of a row: layers x keys, or of one layer where the format is ragged.
        named: The model's layer that each layer of the dump is, where the dump says so.
        place: What the format needs to find the rows.
    """

    name: str
    file: str
    format: str
    tokens: int
    first: int
    rows: int
    layers: int | None
    width: int
    named: tuple[int, ...] | None = None
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """Position after that of the last row."""
        return self.first + self.rows


@dataclass(frozen=True)
class Found:
    """A record with its token ids, as the listing of a dump gives it."""

    record: Record
    ids: Integers


class Rows(Protocol):
    """The rows of one record."""

    def read(self, first: int, last: int) -> NDArray[np.int32]:
        """Rows first .. last - 1, counted from the record's own first row.

        Returns:
            [rows, numbers of a row], or [rows, layers, keys] where the format is ragged; -1 for no key.

        Raises:
            IndexscopeError: The file is not what its listing said.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def token_ids(values: object, where: str) -> Integers:
    """Token ids as an array.

    Raises:
        IndexscopeError: They are no list of integers from 0.
    """
    try:
        ids = np.asarray(values)
    except (ValueError, OverflowError):
        ids = np.empty((0, 0))
    if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        raise IndexscopeError(where, "has no list of token ids", GUIDE)
    if ids.min() < 0 or ids.max() > LARGEST_ID:
        raise IndexscopeError(where, f"has token ids from {ids.min()} to {ids.max()}", "give ids of the vocabulary")
    return ids.astype(np.int64)


def first_row(tokens: int, rows: int, start: object, where: str) -> int:
    """Position of the query that the first row is of.

    A server has rows for every token but the last, which was sampled and never fed, or for every token; where it was
    asked to leave out the beginning of the prompt, the record says from where on.

    Args:
        tokens: Tokens of the sequence.
        rows: Rows of the record.
        start: What the record says; None where it says nothing.
        where: The record.

    Raises:
        IndexscopeError: The rows do not fit the tokens.
    """
    first = 0 if start is None else start
    if type(first) is not int or first < 0:
        raise IndexscopeError(where, f"begins at position {start}", "give the position of its first row, from 0")
    if first + rows not in (tokens, tokens - 1) or not rows:
        begins = f" from position {first} on" if first else ""
        reason = f"has {rows} rows{begins} for {tokens} tokens; a row a token is expected, or one less"
        raise IndexscopeError(where, reason, GUIDE)
    return first


def divided(record: Record, layers: Sequence[int] | None, top_k: int | None) -> Record:
    """The record with its number of layers, where the format leaves open how a row divides.

    Args:
        record: The record.
        layers: The model's layers that it holds, as the study says; None where it does not say.
        top_k: Keys that the baseline's indexer selects; None where its configuration does not say.

    Raises:
        IndexscopeError: A row does not divide, or holds other layers than the study says.
    """
    count = record.layers
    if count is None and layers is not None and record.width % len(layers) == 0:
        count = len(layers)
    if count is None and layers is None and top_k and record.width % top_k == 0:
        count = record.width // top_k
    if count is None:
        by = f"{len(layers)} layers" if layers is not None else f"{top_k} keys a layer" if top_k else "layers and keys"
        reason = f"has {record.width} numbers a token, of which nothing tells how they divide into {by}"
        raise IndexscopeError(record.name, reason, "give the model's layers that the dump holds, layers: [0, 1, ...]")
    if layers is not None and len(layers) != count:
        reason = f"holds {count} layers, and the study names {len(layers)}"
        raise IndexscopeError(record.name, reason, "name the model's layer of each layer of the dump, in its order")
    return replace(record, layers=count, named=record.named if layers is None else tuple(layers))
