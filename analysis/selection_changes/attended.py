"""The stored dense attention of sampled queries, key by key: how much of it is kept, and how it is read.

A query's attention is concentrated: the keys that it attends to most are kept one by one, as float16, and of all
others two sums, over selected keys and over those that were left out. The attention on any other set of keys is then
known up to what lies on keys that were not kept, each of which holds no more than the least of those that were.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.statistics.varint import decode_rows, encode_rows
from indexscope.columns import of, table_of
from indexscope.errors import IndexscopeError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
ATTENDED = table_of(
    "sample, layer with a selection, query",
    "sample layer query",
    of(
        pl.Int32,
        "keys",
        kept="Keys whose attention is kept: the most attended ones, at most closeup.attended_keys.",
    ),
    of(
        pl.Float32,
        "share",
        selected_rest="Dense attention of the head mean on all other selected keys.",
        unselected_rest="The same on all other keys that are not selected.",
    ),
    of(pl.Int32, "queries", weight="Queries of the sample that it stands for."),
    of(
        pl.Binary,
        keys="The kept keys, ascending, as differences in LEB128.",
        mass="Dense attention of the head mean on each, as little-endian float16.",
    ),
)
TOKEN_KINDS = table_of(
    "sample",
    "sample",
    of(pl.Int32, "tokens", tokens="Length of the sample."),
    of(
        pl.Binary,
        classes="Class of each token, one byte: 0 special, 1 whitespace, 2 punctuation, 3 digit, 4 word start, "
        "5 continuation; null without a tokenizer.",
        first="Position of the first token that is the same as each, as little-endian int32.",
    ),
)
COLLECTED = {"attended": ATTENDED, "token_kinds": TOKEN_KINDS}
SHIFT = 32
LEAST = 2.0**-24
"""The least attention that float16 can hold."""


@dataclass(frozen=True)
class Attended:
    """The attention of some queries on the keys that were kept of each.

    Attributes:
        codes: Place of the query among them times 2^32, plus the key; ascending.
        mass: Dense attention of the head mean on the key, same length.
        selected_rest: Attention on selected keys that were not kept, [queries].
        unselected_rest: The same of keys that were not selected, [queries].
    """

    codes: Integers
    mass: Array
    selected_rest: Array
    unselected_rest: Array

    def of(self, codes: Integers) -> Array:
        """Attention on keys given like ``codes``; NaN for those that were not kept."""
        if not len(self.codes):
            return np.full(len(codes), np.nan)
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[place] == codes, self.mass[place], np.nan)


def packed(keys: Integers, mass: Array, counts: Integers) -> dict[str, list[bytes]]:
    """The columns ``keys`` and ``mass``.

    Args:
        keys: Kept keys, ascending within a query, one query after the other.
        mass: Attention on them, same length.
        counts: Keys of each query, [queries].
    """
    halves = mass.astype("<f2").tobytes()
    ends = 2 * np.cumsum(counts)
    return {
        "keys": encode_rows(keys, counts),
        "mass": [halves[end - 2 * count : end] for count, end in zip(counts.tolist(), ends.tolist(), strict=True)],
    }


def unpacked(table: pl.DataFrame) -> Attended:
    """What rows of a table ``attended`` hold; queries are numbered in the order of the rows.

    Raises:
        IndexscopeError: A row's bytes are no attention (cut off, keys that repeat, or not as many as the row says).
    """
    keys, counts, sound = decode_rows(table["keys"].to_list())
    written = table["mass"].to_list()
    sizes = np.fromiter(map(len, written), dtype=np.int64, count=len(written))
    damaged = np.flatnonzero(~sound | (counts != table["kept"].to_numpy()) | (sizes != 2 * counts))
    if len(damaged):
        sample, layer, query = table.select("sample", "layer", "query").row(int(damaged[0]))
        reason = f"{len(damaged)} rows hold no attention, the first is sample {sample}, layer {layer}, query {query}"
        raise IndexscopeError("attended", reason, "make the close-up again")
    mass = np.frombuffer(b"".join(written), dtype="<f2").astype(np.float64)
    rests = (table[name].cast(pl.Float64).to_numpy() for name in ("selected_rest", "unselected_rest"))
    return Attended((np.repeat(np.arange(len(counts)), counts) << SHIFT) + keys, mass, *rests)


def packed_kinds(classes: NDArray[np.int64] | None, ids: Integers) -> tuple[bytes | None, bytes]:
    """The columns ``classes`` and ``first`` of one sample: what its tokens are, and which are equal, but not which."""
    _, first, place = np.unique(ids, return_index=True, return_inverse=True)
    codes = None if classes is None else classes.astype(np.uint8).tobytes()
    return codes, first[place.ravel()].astype("<i4").tobytes()


def unpacked_kinds(classes: bytes | None, first: bytes) -> tuple[NDArray[np.int64] | None, Integers]:
    """Class code of each token of a sample, and the position of the first token that is the same."""
    codes = None if classes is None else np.frombuffer(classes, dtype=np.uint8).astype(np.int64)
    return codes, np.frombuffer(first, dtype="<i4").astype(np.int64)
