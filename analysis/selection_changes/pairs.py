"""Two models' stored selections of the same queries, a bounded number of keys at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.features.stored_selections import ROW, SELECTIONS, pair_selections
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.selection_changes.attended import SHIFT
from indexscope.analysis.statistics.resampling import Array

Integers = NDArray[np.int64]
TABLE = "selections"
#: Keys of both models that are unpacked at once, or those of one sample if they are more.
KEYS_AT_ONCE = 1 << 22
DROPPED, ADDED, KEPT = 0, 1, 2
"""What became of a key that either model selects."""


@dataclass(frozen=True)
class Pairs:
    """The queries of some samples at which a model leaves a key out, and the keys that either model selects there.

    Attributes:
        rows: sample, layer, query, unit, eligible (n_t), before and after (k_t of baseline and candidate), weight
            (queries that the row stands for, divided among the groups of its layer).
        row: Of each key, its place among the rows, ascending.
        key: The key, ascending within a row.
        state: `DROPPED`, `ADDED` or `KEPT`.
        samples: All samples of the block, those without such queries included.
    """

    rows: pl.DataFrame
    row: Integers
    key: Integers
    state: Integers
    samples: Integers

    @property
    def codes(self) -> Integers:
        """Row and key as one number, as `indexscope.analysis.selection_changes.attended` writes them."""
        return np.asarray((self.row << SHIFT) + self.key)

    def count(self, state: int) -> Array:
        """Keys of a state in each row, [rows]."""
        return np.bincount(self.row[self.state == state], minlength=self.rows.height).astype(np.float64)


def pairs(
    baseline: Mapping[str, pl.DataFrame] | Sharded, candidate: Mapping[str, pl.DataFrame] | Sharded
) -> Iterator[Pairs]:
    """Blocks of samples, in the order of the shards.

    Layers in which the two do not choose from the same entries (another unit, or another n_t, as with another window)
    cannot be compared and are left out, like layers in which only one of them selects.

    Raises:
        IndexscopeError: A query is stored for one model only, or a table is damaged.
    """
    if TABLE not in baseline or TABLE not in candidate:
        return
    for first, second in zip(shards(baseline, [TABLE]), shards(candidate, [TABLE]), strict=True):
        if TABLE in first and TABLE in second:
            yield from _of_shard(first[TABLE], second[TABLE])


def _of_shard(baseline: pl.DataFrame, candidate: pl.DataFrame) -> Iterator[Pairs]:
    one, other = _comparable(baseline, candidate)
    if one.is_empty():
        return
    sizes = pl.concat([one, other]).group_by("sample").agg(pl.col("selected").sum().cast(pl.Int64)).sort("sample")
    block = (sizes["selected"].cum_sum() - 1).clip(lower_bound=0) // KEYS_AT_ONCE
    for samples in sizes.group_by(block.alias("block"), maintain_order=True).agg("sample")["sample"]:
        kept = pl.col("sample").is_in(samples.implode())
        yield _unpacked(pair_selections(one.filter(kept), other.filter(kept)), samples.to_numpy().astype(np.int64))


def _comparable(baseline: pl.DataFrame, candidate: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both tables without the layers in which they cannot be compared."""
    one, other = baseline.select(*SELECTIONS.schema), candidate.select(*SELECTIONS.schema)
    both = one.select(*ROW, "unit", "eligible").join(other.select(*ROW, "unit", "eligible"), on=ROW, suffix="_other")
    unlike = (pl.col("unit") != pl.col("unit_other")) | (pl.col("eligible") != pl.col("eligible_other"))
    layers = both.group_by("layer").agg(unlike.any().alias("unlike")).filter(~pl.col("unlike"))
    groups = [frame.group_by("layer").agg(pl.col("group").unique().sort()) for frame in (one, other)]
    alike = groups[0].join(groups[1], on=["layer", "group"]).join(layers, on="layer")
    return tuple(frame.join(alike.select("layer"), on="layer", how="semi") for frame in (one, other))  # type: ignore[return-value]


def _unpacked(found: pl.DataFrame, samples: Integers) -> Pairs:
    groups = found.group_by("layer").agg(groups=pl.col("group").n_unique())
    in_effect = pl.min_horizontal("selected", "selected_candidate") < pl.col("eligible")
    shown = (
        found.filter(in_effect)
        .join(groups, on="layer", maintain_order="left")
        .with_columns(pl.col("weight") / pl.col("groups"))
    )
    before, after = _codes(shown["keys"]), _codes(shown["keys_candidate"])
    codes, state = _merged(before, after)
    rows = shown.select(
        "sample",
        "layer",
        "query",
        "unit",
        "eligible",
        "weight",
        before=pl.col("selected"),
        after=pl.col("selected_candidate"),
    )
    return Pairs(rows, codes >> SHIFT, codes & ((1 << SHIFT) - 1), state, samples)


def _codes(keys: pl.Series) -> Integers:
    counts = keys.list.len().to_numpy().astype(np.int64)
    flat = keys.list.explode(keep_nulls=False, empty_as_null=False) if len(keys) else pl.Series(dtype=pl.UInt32)
    return np.asarray((np.repeat(np.arange(len(counts)), counts) << SHIFT) + flat.to_numpy().astype(np.int64))


def _merged(before: Integers, after: Integers) -> tuple[Integers, Integers]:
    """All codes of two ascending lists, each once, and what became of them."""
    both = np.concatenate((before << 1, (after << 1) + 1))
    both.sort(kind="stable")
    codes = both >> 1
    twice = np.append(codes[1:] == codes[:-1], False)
    state = np.where(twice, KEPT, np.where(both & 1, ADDED, DROPPED))
    first = np.ones(len(codes), dtype=np.bool_)
    first[1:] = ~twice[:-1]
    return codes[first], state[first]
