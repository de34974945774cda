"""Where keys lie and what they are, and how many eligible keys there are of each kind.

E_t is taken to be the n_t last keys up to the query, as without padding: all of them, or those of a window. Of entries
that are no tokens (compressed blocks) only the place among the entries is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.closeup.classes import CLASSES, RELATIONS
from indexscope.analysis.positional_bias.lift import label
from indexscope.analysis.selection_changes.pairs import Integers, Pairs
from indexscope.analysis.statistics.resampling import Array

TENTHS = 10
DISTANCE, RELATIVE, KIND = "distance", "relative", "kind"
KINDS = (*CLASSES, *RELATIONS)
#: Distances up to 2^35, which is more than keys can be stored of.
SIZES = {DISTANCE: 36, RELATIVE: TENTHS, KIND: len(KINDS)}
Kinds = Mapping[int, tuple[Integers | None, Integers]]


@dataclass(frozen=True)
class Binned:
    """Keys of some rows by bin.

    Attributes:
        axis: What the bins divide.
        rows: Which rows of the pairs it is known of, [rows], bool.
        parts: Bin, and which keys of those rows lie in it: places among the pairs' keys. Kinds overlap, so that a key
            may be in several; else every key of the rows is in one.
        eligible: Eligible keys of each row by bin, [rows, bins]; 0 for the other rows.
    """

    axis: str
    rows: NDArray[np.bool_]
    parts: tuple[tuple[Integers, Integers], ...]
    eligible: Array


def bin_label(axis: str, bin_: int) -> str:
    """What a bin holds, in words.

    >>> bin_label("distance", 5), bin_label("kind", 2)
    ('16-31', 'punctuation')
    """
    return KINDS[bin_] if axis == KIND else label(axis, bin_)


def octave(values: Integers) -> Integers:
    """0 for 0, else 1 + floor(log2), exact: the bin of a distance, and one more than the bucket of a position + 1.

    >>> octave(np.array([0, 1, 2, 3, 4, 7, 8])).tolist()
    [0, 1, 2, 2, 3, 3, 4]
    """
    return np.asarray(np.frexp(values.astype(np.float64))[1], dtype=np.int64)


def binned(pairs: Pairs, kinds: Kinds) -> Iterator[Binned]:
    """The keys of a block by distance, by relative position and by kind.

    Args:
        pairs: The block.
        kinds: Of the samples whose tokens are known: class codes (None without a tokenizer) and the first position of
            the same token, see `indexscope.analysis.selection_changes.attended.unpacked_kinds`.
    """
    tokens = (pairs.rows["unit"] == "token").to_numpy()
    query, n = (pairs.rows[name].to_numpy().astype(np.int64) for name in ("query", "eligible"))
    oldest = np.where(tokens, query - n + 1, 0)
    at = np.flatnonzero(tokens[pairs.row])
    distance = octave((query[pairs.row] - pairs.key)[at])
    yield Binned(DISTANCE, tokens, ((distance, at),), _within_distance(n) * tokens[:, None])
    rank = pairs.key - oldest[pairs.row]
    tenth = np.minimum(rank * TENTHS // n[pairs.row], TENTHS - 1)
    yield Binned(RELATIVE, np.ones(len(n), dtype=bool), ((tenth, np.arange(len(tenth))),), _within_tenths(n))
    known = tokens & pairs.rows["sample"].is_in(list(kinds)).to_numpy()
    if known.any():
        yield _by_kind(pairs, kinds, known, oldest)


def _within_distance(n: Integers) -> Array:
    """Of the n last keys, those at distance 0, 1, 2-3, 4-7, ..."""
    edges = np.concatenate(([0], 1 << np.arange(SIZES[DISTANCE], dtype=np.int64)))
    return np.diff(np.minimum(edges[None], n[:, None]), axis=1).astype(np.float64)


def _within_tenths(n: Integers) -> Array:
    """Ranks r of 0 .. n - 1 with floor(10 r / n) = 0, 1, ..., 9."""
    edges = -(-np.arange(TENTHS + 1) * n[:, None] // TENTHS)
    return np.diff(edges, axis=1).astype(np.float64)


def _by_kind(pairs: Pairs, kinds: Kinds, known: NDArray[np.bool_], oldest: Integers) -> Binned:
    sample, query = (pairs.rows[name].to_numpy().astype(np.int64) for name in ("sample", "query"))
    eligible = np.zeros((len(sample), len(KINDS)))
    parts: list[tuple[Integers, Integers]] = []
    for own in np.unique(sample[known]):
        classes, first = kinds[int(own)]
        rows = np.flatnonzero(known & (sample == own))
        at = np.flatnonzero(np.isin(pairs.row, rows))
        key, asked = pairs.key[at], query[pairs.row[at]]
        if classes is not None:
            parts.append((classes[key], at))
        before = np.append(-1, first[:-1])  # of the token before each key; the first key follows nothing
        related = (
            before[key] == first[asked],
            (first[key] == first[asked]) & (key < asked),
            first[key] == key,
        )
        parts += [(np.full(held.sum(), len(CLASSES) + place), at[held]) for place, held in enumerate(related)]
        counted: dict[tuple[int, int], Array] = {}
        for row in rows:
            cell = int(oldest[row]), int(query[row])
            if cell not in counted:
                counted[cell] = _eligible_kinds(classes, first, before, *cell)
            eligible[row] = counted[cell]
    return Binned(KIND, known, tuple(parts), eligible)


def _eligible_kinds(classes: Integers | None, first: Integers, before: Integers, oldest: int, query: int) -> Array:
    """Keys oldest .. query by kind, [kinds]."""
    span = slice(oldest, query + 1)
    of_class = np.zeros(len(CLASSES)) if classes is None else np.bincount(classes[span], minlength=len(CLASSES))
    same = first[span] == first[query]
    relations = (
        (before[span] == first[query]).sum(),
        same.sum() - 1,
        (first[span] == np.arange(oldest, query + 1)).sum(),
    )
    return np.concatenate([of_class, relations]).astype(np.float64)
