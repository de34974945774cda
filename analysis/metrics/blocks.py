"""Feature tables in blocks of equally many samples, so that sums do not depend on where shards were cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from indexscope.analysis.metrics.stream import Sharded, shards

# Sums of floats depend on how they are grouped; a block is always the same samples, a shard is not.
BLOCK = 256


def sample_blocks(
    features: Mapping[str, pl.DataFrame] | Sharded, tables: Sequence[str], size: int = BLOCK
) -> Iterator[dict[str, pl.DataFrame]]:
    """Tables in blocks of that many samples, the last one shorter; samples are in the order of the shards.

    Args:
        features: Feature tables.
        tables: Those to read; a sample counts if any of them has a row of it.
        size: Samples of a block.

    Yields:
        The tables that have rows in the block, each sorted by sample.
    """
    waiting: dict[str, list[pl.DataFrame]] = {}
    held = 0
    for found in shards(features, tables):
        own = {name: frame.sort("sample", maintain_order=True) for name, frame in found.items() if frame.height}
        columns = {name: frame["sample"].to_numpy() for name, frame in own.items()}
        samples = np.unique(np.concatenate([np.empty(0, np.int64), *columns.values()]))
        first = 0
        while first < len(samples):
            last = min(first + size - held, len(samples))
            for name, frame in own.items():
                start = int(np.searchsorted(columns[name], samples[first], "left"))
                stop = int(np.searchsorted(columns[name], samples[last - 1], "right"))
                if stop > start:
                    waiting.setdefault(name, []).append(frame[start:stop])
            held, first = held + last - first, last
            if held == size:
                yield {name: pl.concat(parts) for name, parts in waiting.items()}
                waiting, held = {}, 0
    if waiting:
        yield {name: pl.concat(parts) for name, parts in waiting.items()}
