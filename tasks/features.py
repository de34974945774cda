"""The stored tables that an analysis reads: each table whole where it is asked for, or all of them shard by shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import polars as pl

from storage.store import StepKey, Store

#: Shards that are read while the one before is worked on.
AHEAD = 2
ANALYSES = "analyses/"


class StoredFeatures(Mapping[str, pl.DataFrame]):
    """Tables of several steps as one mapping; nothing is read before it is asked for.

    The tables of an analysis are named after it, "sharing.schedules"; those of other steps by their own names. It is
    `analysis.metrics.stream.Sharded`: the tables of the step with most units can be had one unit at a time.

    Args:
        store: Where they are.
        sources: The steps and the units that make each complete.

    Raises:
        DamagedUnit: While reading, where a file is not as it was committed.
    """

    def __init__(self, store: Store, sources: Sequence[tuple[StepKey, tuple[str, ...]]]) -> None:
        self._store = store
        self._places: dict[str, tuple[StepKey, tuple[str, ...], str]] = {}
        for key, units in sources:
            prefix = f"{key.kind.removeprefix(ANALYSES)}." if key.kind.startswith(ANALYSES) else ""
            for table in store.tables(key):
                self._places[f"{prefix}{table}"] = (key, units, table)

    def __getitem__(self, name: str) -> pl.DataFrame:
        key, units, table = self._places[name]
        return self._store.read(key, table, units)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places  # without reading it

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        """The named tables of each unit in order, read a little ahead; a unit without any of them is left out."""
        wanted = [name for name in tables if name in self._places]
        units = list(dict.fromkeys(unit for name in wanted for unit in self._places[name][1]))
        with ThreadPoolExecutor(AHEAD) as pool:
            ahead: list[Future[dict[str, pl.DataFrame]]] = []
            for unit in units:
                ahead.append(pool.submit(self._unit, wanted, unit))
                if len(ahead) > AHEAD:
                    yield from filter(None, [ahead.pop(0).result()])
            for future in ahead:
                yield from filter(None, [future.result()])

    def _unit(self, names: Sequence[str], unit: str) -> dict[str, pl.DataFrame]:
        found = {}
        for name in names:
            key, units, table = self._places[name]
            record = self._store.record(key, unit) if unit in units else None
            if record is not None and table in record.tables:
                found[name] = self._store.read(key, table, [unit])
        return found
