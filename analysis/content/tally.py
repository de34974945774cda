"""The probe's table ``content`` as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.content.classes import CLASSES, RELATIONS
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.sums import column
from indexscope.analysis.statistics import Array

KINDS = (*CLASSES, *RELATIONS)
COUNTS = ("selections", "expected_selections", "attention_mass", "attention_expected")


@dataclass(frozen=True)
class Contents:
    """Selected keys and attention by kind of token, each [samples, layers, kinds]; 0 where there is no row.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        kinds: Kinds of tokens that occur in the table, in the order of `KINDS`.
        selections: Selected keys.
        expected: Keys that a random selector of the same size would take.
        attention: Dense attention of the head mean.
        attention_expected: Attention if it were uniform.
    """

    samples: NDArray[np.int64]
    layers: NDArray[np.int64]
    kinds: tuple[str, ...]
    selections: Array
    expected: Array
    attention: Array
    attention_expected: Array


def contents(features: Mapping[str, pl.DataFrame] | Sharded) -> Contents | None:
    """Read ``content`` shard by shard, twice; None where no query was in effect anywhere."""
    layers, kinds = _axes(features)
    if not len(layers):
        return None
    parts = [_sums(frame, layers, kinds) for frame in _frames(features)]
    samples = np.concatenate([own for own, _ in parts])
    order = np.argsort(samples, kind="stable")
    sums = (np.concatenate([own[place] for _, own in parts])[order] for place in range(len(COUNTS)))
    return Contents(samples[order], layers, kinds, *sums)


def _frames(features: Mapping[str, pl.DataFrame] | Sharded) -> Iterator[pl.DataFrame]:
    for part in shards(features, ["content"]):
        if "content" in part:
            yield part["content"].filter((pl.col("weight") > 0) & pl.col("token_class").is_in(KINDS))


def _axes(features: Mapping[str, pl.DataFrame] | Sharded) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    layers: set[int] = set()
    present: set[str] = set()
    for frame in _frames(features):
        layers.update(frame["layer"].unique())
        present.update(frame["token_class"].unique())
    return np.array(sorted(layers), dtype=np.int64), tuple(kind for kind in KINDS if kind in present)


def _sums(
    frame: pl.DataFrame, layers: NDArray[np.int64], kinds: tuple[str, ...]
) -> tuple[NDArray[np.int64], list[Array]]:
    """One shard's samples, and each of `COUNTS` as [samples, layers, kinds]."""
    samples, sample = np.unique(frame["sample"].to_numpy(), return_inverse=True)
    layer = np.searchsorted(layers, frame["layer"].to_numpy())
    order = {kind: place for place, kind in enumerate(kinds)}
    kind = frame["token_class"].replace_strict(order, return_dtype=pl.Int64).to_numpy()

    def spread(name: str) -> Array:
        array = np.zeros((len(samples), len(layers), len(kinds)))
        np.add.at(array, (sample, layer, kind), np.nan_to_num(column(frame, name)))
        return array

    return samples.astype(np.int64), [spread(name) for name in COUNTS]
