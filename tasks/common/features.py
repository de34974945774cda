"""A model's stored features as analyses read them: a table whole, or all tables shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from indexscope.storage.store.lazy import Lazy
from indexscope.storage.store.store import StepKey, Store

#: Feature tables that no analysis of one model reads: the selected keys of a whole dataset, which are large.
UNREAD = ("selections",)
ANALYSES = "analyses/"


class StoredFeatures(Lazy[pl.DataFrame]):
    """The tables of some steps, read when they are asked for and not kept.

    Every checksum is verified at every reading. Result tables of an analysis bear its name: "layer_sharing.schedules".

    Args:
        store: The store.
        sources: The steps, each with the units that make it complete; of a table that two of them have, the later
            step's is taken.
        also: Tables of `UNREAD` that are wanted nevertheless.
    """

    def __init__(
        self, store: Store, sources: Sequence[tuple[StepKey, Sequence[str]]], also: Sequence[str] = ()
    ) -> None:
        self._store = store
        self._sources = {
            _name(key, table): (key, table, tuple(units))
            for key, units in sources
            for table in store.tables(key)
            if table not in UNREAD or table in also
        }
        super().__init__(self._sources, lambda place: store.read(*place))

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        """The named tables of one shard after the other, those that it has; see `indexscope.analysis.metrics.stream`.

        Steps with the same units are read together, steps with other units one after the other.

        Raises:
            DamagedUnit: A file is not what was committed.
        """
        wanted: dict[tuple[str, ...], dict[StepKey, list[str]]] = {}
        for table in tables:
            if table in self._sources:
                key, stored, units = self._sources[table]
                wanted.setdefault(units, {}).setdefault(key, []).append(stored)
        for units, steps in wanted.items():
            readers = [self._store.read_units(key, names, units) for key, names in steps.items()]
            for parts in zip(*readers, strict=True):
                named = zip(steps, parts, strict=True)
                shard = {_name(key, table): frame for key, part in named for table, frame in part.items()}
                if shard:
                    yield shard


def _name(key: StepKey, table: str) -> str:
    """What an analysis calls a table: those of other analyses bear their names."""
    return f"{key.kind.removeprefix(ANALYSES)}.{table}" if key.kind.startswith(ANALYSES) else table
