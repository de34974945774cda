"""Feature tables shard by shard, so that an analysis needs the memory of one shard and of what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import polars as pl


@runtime_checkable
class Sharded(Protocol):
    """Feature tables that can be read one shard at a time; as a mapping, each table is read whole."""

    def __contains__(self, table: object, /) -> bool:
        """Whether there is such a table; nothing is read."""
        ...

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        """The named tables of each shard in order, those that it has; samples never cross shards."""
        ...


def shards(
    features: Mapping[str, pl.DataFrame] | Sharded, tables: Sequence[str]
) -> Iterator[Mapping[str, pl.DataFrame]]:
    """Some tables shard by shard; frames that are in memory already are one shard.

    May be called again to read everything once more.
    """
    if isinstance(features, Sharded):
        yield from features.shards(tables)
    else:
        yield {name: features[name] for name in tables if name in features}
