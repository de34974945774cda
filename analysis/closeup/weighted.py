"""From numbers of single queries to weighted means of groups of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.buckets import bucket_of
from indexscope.columns import Table

Array = NDArray[np.float64]


def array(values: torch.Tensor) -> Array:
    """A tensor's numbers in float64, wherever it is."""
    return np.asarray(values.detach().cpu().double().numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Queries:
    """Quantities of some queries that belong together.

    Attributes:
        place: Where they all belong: the layer and whatever else tells groups apart.
        bucket: Position bucket of each query, [Q].
        values: Quantities of each query, their ``weight`` among them, [Q] each; NaN where unknown.
    """

    place: Mapping[str, int | float | str]
    bucket: NDArray[np.int64]
    values: Mapping[str, Array]


def of_queries(
    rows: CloseupRows, counted: torch.Tensor, values: Mapping[str, torch.Tensor], **place: float | str
) -> Queries:
    """Quantities of the queries of a layer that count.

    Args:
        rows: A layer at the sampled queries.
        counted: Which of them count, [Q], bool.
        values: Quantities of each query, [Q].
        place: Where they belong beside the layer.
    """
    kept = counted.cpu().numpy()
    found = {name: array(value)[kept] for name, value in values.items()}
    bucket = bucket_of(rows.query.cpu()).numpy()[kept]
    return Queries({"layer": rows.layer, **place}, bucket, {"weight": array(rows.weight)[kept], **found})


class Groups:
    """Queries by group.

    Args:
        parts: Queries with the same quantities, at least one.
        key: What tells groups apart: names of places, and ``bucket``.
    """

    def __init__(self, parts: Sequence[Queries], key: Sequence[str]) -> None:
        self._parts = parts
        codes, found = [], []
        for name in key:
            values, code = self._codes(name)
            codes.append(code)
            found.append(values)
        shape = [len(values) for values in found]
        present, self._group = np.unique(np.ravel_multi_index(codes, shape), return_inverse=True)
        self._size = len(present)
        places = np.unravel_index(present, shape)
        self.keys = {name: values[place] for name, values, place in zip(key, found, places, strict=True)}

    def _codes(self, name: str) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        if name == "bucket":
            values, code = np.unique(np.concatenate([part.bucket for part in self._parts]), return_inverse=True)
            return values, code
        values, code = np.unique(np.array([part.place[name] for part in self._parts]), return_inverse=True)
        return values, np.repeat(code, [len(part.bucket) for part in self._parts])

    def values(self, name: str) -> Array:
        """A quantity of all queries."""
        return np.concatenate([part.values[name] for part in self._parts])

    def count(self) -> NDArray[np.int64]:
        """Queries of each group."""
        return np.bincount(self._group, minlength=self._size)

    def sum(self, values: Array) -> Array:
        """Sum of a number of all queries by group."""
        return np.bincount(self._group, weights=values, minlength=self._size).astype(np.float64)

    def known(self, name: str) -> Array:
        """Weight of the queries where a quantity is known, by group."""
        return self.sum(np.where(np.isnan(self.values(name)), 0.0, self.values("weight")))

    def mean(self, name: str) -> Array:
        """sum(value x weight) / sum(weight) over the queries where the value is known; NaN where it nowhere is."""
        values = self.values(name)
        with np.errstate(invalid="ignore"):
            return self.sum(np.where(np.isnan(values), 0.0, values * self.values("weight"))) / self.known(name)

    def most(self, name: str) -> Array:
        """The largest value of each group where it is known; NaN where it nowhere is."""
        values = self.values(name)
        found = np.full(self._size, -np.inf)
        np.fmax.at(found, self._group, values)
        return np.where(np.isneginf(found), np.nan, found)


def grouped(
    parts: Sequence[Queries],
    table: Table,
    sample: int,
    more: Callable[[Groups], Mapping[str, NDArray[np.generic]]] = lambda groups: {},
) -> pl.DataFrame:
    """Quantities of single queries as one table of a sample, sorted by its keys.

    Every column with a weight is a mean, ``queries`` their number and ``weight`` what they stand for.

    Args:
        parts: Quantities of queries.
        table: What they are grouped to; its key tells groups apart.
        sample: Index of the sample.
        more: The other columns.
    """
    filled = [part for part in parts if len(part.bucket)]
    if not filled:
        return table.empty()
    groups = Groups(filled, table.key[1:])
    count = groups.count()
    columns = {
        **groups.keys,
        "sample": np.full(len(count), sample),
        "queries": count,
        "weight": groups.sum(groups.values("weight")),
        **{name: groups.mean(name) for name in table.weights},
        **more(groups),
    }
    return table.shaped(pl.DataFrame(columns, nan_to_null=True))
