"""From numbers of single queries to weighted means of groups of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.stacked import Stacked
from indexscope.analysis.features.buckets import bucket_of
from indexscope.columns import Table

Array = NDArray[np.float64]


def array(values: torch.Tensor) -> Array:
    """A tensor's numbers in float64, wherever it is."""
    return np.asarray(values.detach().cpu().double().numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Queries:
    """Quantities of some queries that have the same ones.

    Attributes:
        place: Where they belong: layer, bucket and whatever else tells groups apart, of each query or of all.
        values: Quantities of each query, their ``weight`` among them, [Q] each; NaN where unknown.
    """

    place: Mapping[str, NDArray[Any] | float | str]
    values: Mapping[str, Array]

    def __len__(self) -> int:
        """How many queries there are."""
        return len(self.values["weight"])

    def at(self, name: str) -> NDArray[Any]:
        """Where each query belongs, [Q]."""
        return np.broadcast_to(np.asarray(self.place[name]), len(self))

    def of(self, kept: NDArray[np.bool_]) -> Queries:
        """Some of the queries."""
        return Queries(
            {name: self.at(name)[kept] for name in self.place},
            {name: value[kept] for name, value in self.values.items()},
        )


def of_queries(
    rows: Stacked, counted: torch.Tensor, values: Mapping[str, torch.Tensor], **place: float | str
) -> Queries:
    """Quantities of the queries of some layers that count.

    Args:
        rows: Layers at the sampled queries.
        counted: Which of them count, [R], bool.
        values: Quantities of each query, [R].
        place: Where they belong beside layer and bucket.
    """
    kept = counted.cpu().numpy()
    bucket = bucket_of(rows.query.cpu()).numpy()[kept]
    found = {name: array(value)[kept] for name, value in values.items()}
    return Queries(
        {"layer": rows.layer[kept], "bucket": bucket, **place}, {"weight": array(rows.weight)[kept], **found}
    )


class Groups:
    """Queries by group.

    Args:
        parts: Queries with the same quantities, at least one.
        key: What tells groups apart: names of places.
    """

    def __init__(self, parts: Sequence[Queries], key: Sequence[str]) -> None:
        self._parts = parts
        every = [np.unique(np.concatenate([part.at(name) for part in parts]), return_inverse=True) for name in key]
        shape = [len(values) for values, _ in every]
        present, self._group = np.unique(np.ravel_multi_index([code for _, code in every], shape), return_inverse=True)
        self._size = len(present)
        places = np.unravel_index(present, shape)
        self.keys = {name: values[place] for name, (values, _), place in zip(key, every, places, strict=True)}

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
    more: Callable[[Groups], Mapping[str, NDArray[Any]]] = lambda groups: {},
) -> pl.DataFrame:
    """Quantities of single queries as one table of a sample, sorted by its keys.

    Every column with a weight is a mean, ``queries`` their number and ``weight`` what they stand for.

    Args:
        parts: Quantities of queries.
        table: What they are grouped to; its key tells groups apart.
        sample: Index of the sample.
        more: The other columns.
    """
    filled = [part for part in parts if len(part)]
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
