"""The store: content-addressed steps whose units are visible only by a commit marker.

Layout, relative to the store::

    <kind>/<digest>/manifest.json            what was asked for, written at first use
    <kind>/<digest>/<table>/<unit>.parquet   a unit's part of a table
    <kind>/<digest>/_commits/<unit>.json     the unit's marker: written last, names its files with size, rows, checksum
    <kind>/<digest>/_packs/<units>.json.gz   an index of the markers of a thousand units, in steps of many
    <kind>/<digest>/_passes/<unit>.pass      what a pass has come to that is to make a unit; gone with the pass
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import polars as pl

from indexscope.columns import Table
from indexscope.errors import IndexscopeError
from indexscope.storage.store import packs, parquet
from indexscope.storage.store.files import Folder, Staged, open_store
from indexscope.storage.store.inventory import inventory
from indexscope.storage.store.json_types import JSON, canonical_json, plain_json
from indexscope.storage.store.keys import SCHEMA_VERSION, StepKey, check_name, step_key
from indexscope.storage.store.names import Names, counted
from indexscope.storage.store.records import (
    FileRecord,
    Manifest,
    UnitRecord,
    UnitStatus,
    encode_marker,
    marker_file,
    parse_manifest,
    parse_marker,
    table_file,
)

__all__ = [
    "JSON",
    "SCHEMA_VERSION",
    "DamagedUnit",
    "Manifest",
    "StepKey",
    "Store",
    "UnitRecord",
    "UnitStatus",
    "step_key",
]

MANIFEST = "manifest.json"
#: Files read at the same time: a bucket answers slowly, and checksums run beside each other.
READERS = 8
#: Units that are read before they are asked for.
AHEAD = 4


class DamagedUnit(IndexscopeError):
    """A unit that was committed and is not what was committed; it can be discarded and computed again.

    Args:
        where: The file.
        reason: What is wrong with it.
        remedy: What the user can do.
        key: The step.
        unit: The unit.
    """

    def __init__(self, where: object, reason: str, remedy: str, key: StepKey, unit: str) -> None:
        super().__init__(where, reason, remedy)
        self.key, self.unit = key, unit

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Rebuild from all parts, so that the error crosses process borders whole."""
        return type(self), (self.where, self.reason, self.remedy, self.key, self.unit)


class Store:
    """A local folder or any fsspec URL that holds the results of steps.

    A unit is *committed* when its marker is readable and every file it names is there in full; *damaged* when there is
    a marker but its files are not as it says; *missing* when there is no marker. Safe to share between threads, and
    picklable for worker processes.

    Args:
        url: Folder or URL. Nothing is created before the first commit.

    Example:
        >>> store = Store("memory://example")
        >>> key = step_key("features", {"checkpoint": "abc"})
        >>> _ = store.commit(key, "shard-00000", {"tokens": pl.DataFrame({"nll": [1.5]})}, label="baseline")
        >>> store.read(key, "tokens")["nll"].to_list()
        [1.5]
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.folder = open_store(url)

    @property
    def url(self) -> str:
        """The store's address as it was given."""
        return self.folder.url

    def location(self, key: StepKey) -> str:
        """Address of a step's folder, for people and for other Parquet readers."""
        return self.folder.child(key.path).url

    def prepare(self, key: StepKey, label: str, units: Sequence[str] | None = None) -> None:
        """Write the manifest of a step, unless it is there already.

        Args:
            key: The step.
            label: What a person calls it; the first writer's label stays.
            units: The units that will make the step complete, if known.

        Raises:
            IndexscopeError: A newer Indexscope wrote the step, or the store cannot be written.
        """
        expected = None if units is None else Names.of(check_name(unit, "unit") for unit in units)
        known = self.manifest(key)
        if known is not None and (expected is None or known.units == expected):
            return
        step = self.folder.child(key.path)
        step.remove_stale()
        manifest = Manifest(key.kind, key.digest, key.inputs, known.label if known else label, expected)
        step.write(MANIFEST, manifest.encode())

    def manifest(self, key: StepKey) -> Manifest | None:
        """Read the manifest of a step; None if there is none or it is torn."""
        step = self.folder.child(key.path)
        try:
            data = step.read(MANIFEST)
        except FileNotFoundError:
            return None
        return parse_manifest(data, step.url)

    def commit(
        self,
        key: StepKey,
        unit: str,
        tables: Mapping[str, pl.DataFrame],
        label: str,
        extra: Mapping[str, JSON] | None = None,
        described: Mapping[str, Table] | None = None,
    ) -> UnitRecord:
        """Write the tables of one unit and make them visible at once.

        A unit that is committed already stays as it is, and its record is returned: results are content-addressed.

        Args:
            key: The step.
            unit: The unit's name, such as "shard-00003" or "result".
            tables: One frame per table.
            label: What a person calls the step; kept if this is its first use.
            extra: Small facts to keep in the marker.
            described: The tables as they are declared: what their columns mean, which is written beside them.

        Raises:
            IndexscopeError: A newer Indexscope wrote the step, or the store cannot be written.
            OSError: The disk or the network failed; the unit is not committed, and trying again is safe.
        """
        marker = marker_file(check_name(unit, "unit"))
        self.prepare(key, label)
        step = self.folder.child(key.path)
        files: list[FileRecord] = []
        staged: list[Staged] = []
        try:
            for table in sorted(tables):
                data = parquet.encode(tables[table], (described or {}).get(table))
                name = table_file(check_name(table, "table"), unit)
                files.append(FileRecord(table, len(data), tables[table].height, hashlib.sha256(data).hexdigest()))
                staged.append(step.stage(name, data))
            record = UnitRecord(key.kind, key.digest, unit, tuple(files), _mapping(extra or {}))
            staged.append(step.stage(marker, encode_marker(record)))
            with step.lock("_commits/.lock"):
                before = self._marker(step, unit)
                existing = self._whole(key, unit, before)
                if existing is not None:
                    return existing
                # A marker over damaged files must not come to vouch for a mixture of old files and new ones.
                none: AbstractContextManager[None] = contextlib.nullcontext()
                unmarked = none if before is None else packs.unmarked(step, unit)
                with unmarked, step.refusals():
                    while staged:
                        staged[0].publish()
                        del staged[0]
            return record
        finally:
            for leftover in staged:
                leftover.discard()

    def unit_status(self, key: StepKey, unit: str) -> UnitStatus:
        """Say whether a unit can be used, from its marker and the sizes of its files.

        Checksums are verified when tables are read.

        Raises:
            IndexscopeError: A newer Indexscope wrote the step.
        """
        self.manifest(key)
        if self._marker(self.folder.child(key.path), unit) is None:
            return "missing"
        return "damaged" if self._intact(key, unit) is None else "committed"

    def unit_statuses(self, key: StepKey, units: Sequence[str]) -> dict[str, UnitStatus]:
        """The status of many units with one listing, which is what a bucket needs.

        Units of a pack (`indexscope.storage.store.packs`) are believed until they are read.
        """
        self.manifest(key)
        step = self.folder.child(key.path)
        statuses: dict[str, UnitStatus] = {}
        left: list[str] = []
        for run, pack in self._looked_up(key, units):
            if pack is not None and pack.units == run:
                statuses.update(dict.fromkeys(run, "committed"))
                continue
            known = set(pack.units) if pack else set()
            for unit in run:
                statuses[unit] = "committed" if unit in known else "missing"
            left += [check_name(unit, "unit") for unit in run if unit not in known]
        if len(left) <= packs.FEW and len(left) < len(statuses):
            statuses.update((unit, status) for unit, (status, _) in packs.look_at(step, key.path, left).items())
            return statuses
        sizes = step.sizes()
        marked = [unit for unit in left if marker_file(unit) in sizes]
        for unit, data in zip(marked, step.read_many([marker_file(unit) for unit in marked]), strict=True):
            if data is None:
                continue
            record = parse_marker(data, key.path, unit)
            statuses[unit] = "committed" if record is not None and record.matches(sizes) else "damaged"
        return statuses

    def is_packed(self, key: StepKey, units: Sequence[str]) -> bool:
        """Whether packs tell of all of many units that they are committed, which takes no memory for each."""
        self.manifest(key)
        if len(units) < packs.LEAST:
            return False
        return all(pack is not None and pack.units == run for run, pack in self._looked_up(key, units))

    def lacking(self, key: StepKey, units: Sequence[str]) -> dict[str, UnitStatus]:
        """The status of those units that are not committed; nothing is held of others where packs tell of all."""
        if self.is_packed(key, units):
            return {}
        statuses = self.unit_statuses(key, units)
        return {unit: status for unit, status in statuses.items() if status != "committed"}

    def compact(self, key: StepKey, units: Sequence[str]) -> int:
        """Write the packs of a step of many units; see `indexscope.storage.store.packs`.

        Args:
            key: The step.
            units: All its units, once they are known to be whole.

        Returns:
            How many packs were written.

        Raises:
            IndexscopeError: A newer Indexscope wrote the step, or the store cannot be written.
        """
        return packs.write_packs(self.folder.child(key.path), key.path, units)

    def records(self, key: StepKey, units: Sequence[str]) -> Iterator[UnitRecord]:
        """What the markers of units say, in order and few in memory at once; of a missing or damaged one nothing."""
        self.manifest(key)
        return (record for _, record, _ in self._each(key, units) if record is not None)

    def record(self, key: StepKey, unit: str) -> UnitRecord | None:
        """The record of a committed unit; None if it is missing or damaged."""
        self.manifest(key)
        return self._intact(key, unit)

    def units(self, key: StepKey) -> list[str]:
        """Names of the units that have a marker, in order; numbers count as such."""
        names = self.folder.child(key.path).sizes("_commits")
        units = (name.removeprefix("_commits/").removesuffix(".json") for name in names if name.endswith(".json"))
        return sorted(units, key=counted)

    def tables(self, key: StepKey) -> list[str]:
        """Names of the tables that the committed units of a step hold, sorted."""
        self.manifest(key)
        units = self.units(key)
        if not units:
            raise self._holds_nothing(key)
        records = self._believed(key, self._each(key, units))
        return sorted({table for record in records for table in record.tables})

    def read(self, key: StepKey, table: str, units: Sequence[str] | None = None) -> pl.DataFrame:
        """Read one table of a step, with every checksum verified.

        Args:
            key: The step.
            table: The table's name.
            units: Which units, in this order; by default all that are committed, by name. Units without the table
                add nothing.

        Raises:
            IndexscopeError: Nothing is committed, no unit has the table, a named unit is missing, or a file is damaged.
        """
        self.manifest(key)
        records = self._records(key, units)
        holding = [record for record in records if table in record.tables]
        with ThreadPoolExecutor(READERS) as pool:
            frames = list(pool.map(lambda record: self._frame(key, record, table), holding))
        if not frames:
            held = ", ".join(sorted({name for record in records for name in record.tables})) or "none"
            raise IndexscopeError(self.location(key), f"has no table {table!r}", f"choose one of its tables: {held}")
        try:
            # A column may hold only nulls in one unit and numbers in another.
            return pl.concat(frames, how="vertical_relaxed")
        except pl.exceptions.PolarsError as error:
            where = f"{self.location(key)}/{table}"
            reason = f"has units of different columns ({error})"
            raise IndexscopeError(where, reason, "delete the folder and run the study again") from error

    def read_units(
        self, key: StepKey, tables: Sequence[str], units: Sequence[str]
    ) -> Iterator[dict[str, pl.DataFrame]]:
        """Read some tables unit by unit, with every checksum verified and few units in memory at once.

        Args:
            key: The step.
            tables: Names of the tables.
            units: Which units, in this order.

        Yields:
            For each unit, those of the tables that it has.

        Raises:
            IndexscopeError: A named unit is missing, or a file is damaged.
        """
        self.manifest(key)
        names = [check_name(unit, "unit") for unit in units]
        many = len(names) >= packs.LEAST
        records = self._believed(key, self._each(key, names)) if many else iter(self._records(key, names))

        def read(record: UnitRecord) -> dict[str, pl.DataFrame]:
            return {table: self._frame(key, record, table) for table in tables if table in record.tables}

        with ThreadPoolExecutor(AHEAD) as pool:
            waiting = deque(pool.submit(read, record) for record in islice(records, AHEAD))
            try:
                while waiting:
                    frames = waiting.popleft().result()
                    waiting.extend(pool.submit(read, record) for record in islice(records, 1))
                    yield frames
            finally:
                for unread in waiting:
                    unread.cancel()

    def read_unit(self, key: StepKey, unit: str, only: Container[str] | None = None) -> dict[str, pl.DataFrame]:
        """Read the tables of one unit, with every checksum verified; of many small ones faster than one by one.

        Args:
            key: The step.
            unit: The unit.
            only: Tables that are wanted; by default all.

        Raises:
            IndexscopeError: The unit is missing, or a file is damaged.
        """
        self.manifest(key)
        (record,) = self._records(key, [unit])
        wanted = sorted(table for table in record.tables if only is None or table in only)
        return {table: self._frame(key, record, table) for table in wanted}

    def read_parts(self, key: StepKey, table: str, unit: str) -> Iterator[pl.DataFrame]:
        """Read one table of a unit part by part, with its checksum verified first: for tables that are large decoded.

        Args:
            key: The step.
            table: The table's name.
            unit: The unit.

        Raises:
            IndexscopeError: The unit is missing, or its file is damaged.
        """
        self.manifest(key)
        (record,) = self._records(key, [unit])
        data, where = self._bytes(key, record, table)
        yield from parquet.decode_parts(data, where)

    def check(self, key: StepKey, record: UnitRecord) -> None:
        """Read every byte of a unit, without making frames of them.

        Raises:
            DamagedUnit: A file is not what was committed.
        """
        for table in record.tables:
            self._bytes(key, record, table)

    def read_all(self, key: StepKey) -> dict[str, pl.DataFrame]:
        """Read every table of a step's committed units."""
        return {table: self.read(key, table) for table in self.tables(key)}

    def discard(self, key: StepKey, unit: str) -> None:
        """Remove a unit, its marker before its files, so that it counts as missing at every instant."""
        step = self.folder.child(key.path)
        with step.lock("_commits/.lock"):
            data = self._marker(step, unit)
            record = None if data is None else parse_marker(data, key.path, unit)
            with packs.unmarked(step, unit):
                for name in record.names if record else ():
                    step.remove(name)

    def discard_pack(self, key: StepKey, name: str) -> None:
        """Remove a pack, by its path in the step: the markers still tell of its units."""
        assert name.startswith(f"{packs.FOLDER}/")
        self.folder.child(key.path).remove(name)

    def content(self, key: StepKey, units: Sequence[str]) -> str:
        """One checksum over what units hold, from their markers alone: it changes exactly when a table's bytes do.

        Raises:
            IndexscopeError: A unit is missing, or its marker is damaged.
        """
        digest, before = hashlib.sha256(), "["
        for text in self._texts(key, units):
            digest.update(f"{before}{text}".encode())
            before = ","
        if before == "[":
            raise self._holds_nothing(key)
        digest.update(b"]")
        return digest.hexdigest()

    def _texts(self, key: StepKey, units: Sequence[str]) -> Iterator[str]:
        """Canonical JSON of what units hold."""
        for run, pack in self._looked_up(key, units):
            if pack is not None and pack.units == run:
                yield ",".join(pack.texts())
            else:
                for record in self._believed(key, self._of_run(key, run, pack)):
                    yield canonical_json([record.unit, *([file.table, file.sha256] for file in record.files)])

    def digests(self, kind: str) -> list[str]:
        """Digests of the steps of a kind, sorted; no file is read."""
        folder = self.folder.child(kind)
        folder.fs.invalidate_cache()
        names: list[object] = []
        with folder.answers(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = folder.fs.ls(folder.root, detail=False)
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in names)

    def list_steps(self) -> pl.DataFrame:
        """What the store holds, one row a step; see `indexscope.storage.store.inventory`."""
        return inventory(self.folder)

    def _records(self, key: StepKey, units: Sequence[str] | None) -> list[UnitRecord]:
        wanted = self.units(key) if units is None else [check_name(unit, "unit") for unit in units]
        if not wanted:
            raise self._holds_nothing(key)
        return list(self._believed(key, self._each(key, wanted)))

    def _holds_nothing(self, key: StepKey) -> IndexscopeError:
        return IndexscopeError(self.location(key), "holds no committed unit", "run the study to compute it")

    def _believed(self, key: StepKey, found: Iterable[tuple[str, UnitRecord | None, bool]]) -> Iterator[UnitRecord]:
        """The records of units that all have to be there."""
        for unit, record, there in found:
            if not there:
                raise IndexscopeError(self.location(key), f"has no committed {unit}", "run the study to compute it")
            if record is None:
                raise _damaged(f"{self.location(key)}/{marker_file(unit)}", "is not a commit marker", key, unit)
            yield record

    def _each(self, key: StepKey, units: Sequence[str]) -> Iterator[tuple[str, UnitRecord | None, bool]]:
        """Of each unit its record, None where that cannot be read, and whether it has a marker."""
        for run, pack in self._looked_up(key, units):
            yield from self._of_run(key, run, pack)

    def _of_run(
        self, key: StepKey, run: Sequence[str], pack: packs.Pack | None
    ) -> Iterator[tuple[str, UnitRecord | None, bool]]:
        places = {} if pack is None else {unit: place for place, unit in enumerate(pack.units)}
        loose = [check_name(unit, "unit") for unit in run if unit not in places]
        read = self.folder.child(key.path).read_many([marker_file(unit) for unit in loose])
        markers = dict(zip(loose, read, strict=True))
        for unit in run:
            if pack is not None and unit in places:
                yield unit, pack.record(places[unit]), True
            else:
                data = markers[unit]
                yield unit, None if data is None else parse_marker(data, key.path, unit), data is not None

    def _looked_up(self, key: StepKey, units: Sequence[str]) -> Iterator[tuple[Sequence[str], packs.Pack | None]]:
        """Units, run by run, with the pack that has some of them; a few have none."""
        if len(units) < packs.LEAST:
            return iter([(units, None)])
        return packs.look_up(self.folder.child(key.path), key.path, units)

    def _intact(self, key: StepKey, unit: str) -> UnitRecord | None:
        return self._whole(key, unit, self._marker(self.folder.child(key.path), unit))

    def _whole(self, key: StepKey, unit: str, marker: bytes | None) -> UnitRecord | None:
        """The record of a unit whose files have the sizes that its marker names."""
        step = self.folder.child(key.path)
        record = None if marker is None else parse_marker(marker, key.path, unit)
        if record is None:
            return None
        return record if record.matches({name: step.size(name) for name in record.names}) else None

    def _marker(self, step: Folder, unit: str) -> bytes | None:
        try:
            return step.read(marker_file(check_name(unit, "unit")))
        except FileNotFoundError:
            return None

    def _frame(self, key: StepKey, record: UnitRecord, table: str) -> pl.DataFrame:
        return parquet.decode(*self._bytes(key, record, table))

    def _bytes(self, key: StepKey, record: UnitRecord, table: str) -> tuple[bytes, str]:
        """A file as it was committed, and where it is."""
        file = record.file(table)
        name = table_file(table, record.unit)
        where = f"{self.location(key)}/{name}"
        try:
            data = self.folder.child(key.path).read(name)
        except FileNotFoundError as error:
            raise _damaged(where, "is gone though it was committed", key, record.unit) from error
        if len(data) != file.bytes:
            raise _damaged(where, f"has {len(data)} bytes where {file.bytes} were committed", key, record.unit)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise _damaged(where, "is not what was committed (checksum differs)", key, record.unit)
        return data, where


def _damaged(where: str, reason: str, key: StepKey, unit: str) -> DamagedUnit:
    return DamagedUnit(where, reason, "run the study again: only this unit is computed anew", key, unit)


def _mapping(extra: Mapping[str, JSON]) -> dict[str, JSON]:
    copied = plain_json(extra, "extra")
    assert isinstance(copied, dict)
    return copied
