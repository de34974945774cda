"""Which pattern rows the clusters are fitted on: chosen by a hash of their keys, so that no cut into shards matters."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.clustering.rows import KEYS, ROWS, pattern_rows
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.sums import Features

TABLES = ("attention", "heads")


def chosen_rows(features: Features | Sharded, most: int, seed: int) -> pl.DataFrame:
    """At most this many pattern rows, those with the smallest hashes, sorted by sample, layer and head.

    Memory holds one shard and twice the rows that are kept.

    Args:
        features: Feature tables, or shards of them.
        most: Rows to keep.
        seed: Another seed chooses other rows.
    """
    kept = pl.DataFrame(schema=ROWS | {"hash": pl.UInt64})
    for part in shards(features, TABLES):
        rows = pattern_rows(part)
        found = rows.with_columns(pl.Series("hash", hashes(rows, KEYS, seed), dtype=pl.UInt64))
        kept = pl.concat([kept, found]).sort("hash", *KEYS).head(most)
    return kept.sort(KEYS).drop("hash")


def hashes(rows: pl.DataFrame, keys: tuple[str, ...], seed: int) -> NDArray[np.uint64]:
    """A well-mixed number for each row, from its keys and the seed alone (SplitMix64, Steele et al. 2014)."""
    state = np.full(rows.height, seed, dtype=np.uint64)
    for key in keys:
        state = _mixed(state + rows[key].to_numpy().astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return state


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
