"""Packs: the markers of up to a thousand units in one file, so that a million are planned without opening each of them.

A pack is an index, and may be deleted at any time: the markers stay, and what they say counts. It is written once all
its units are committed. Whoever takes a marker away, or puts another in its place, removes the pack before and after;
whoever writes a pack reads its markers again afterwards, and removes it if they have changed. So one always sees the
other, on a disk and in a bucket, without a lock. What is read through a pack is compared with its checksum as ever, so
that even a stale one, which an older Indexscope or a crash can leave, is never more than a unit to compute again.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from indexscope.storage.store.files import REMOTE_READERS, Folder
from indexscope.storage.store.json_types import canonical_json
from indexscope.storage.store.keys import NAME, SCHEMA_VERSION
from indexscope.storage.store.records import (
    FileRecord,
    UnitRecord,
    UnitStatus,
    marker_file,
    parse_marker,
    refuse_newer,
)

FOLDER = "_packs"
#: Digits at the end of a unit's name that do not tell its pack: a thousand units have one.
DIGITS = 3
#: Steps of fewer units have no packs: their markers are as quickly read.
LEAST = 1000
#: Units that are looked at one by one rather than in a listing of all.
FEW = 1000
_Column = tuple[list[int | None], list[int | None], list[str | None]]


@dataclass(frozen=True)
class Pack:
    """What the markers of some units say.

    Attributes:
        kind: Kind of the step.
        digest: Digest of the step.
        units: Names of the units, in order.
        files: By table: size in bytes, rows and checksum for each unit; null where the unit has no such table.
        more: JSON list of the JSON texts of what else each marker keeps; read only where it is asked for.
    """

    kind: str
    digest: str
    units: Sequence[str]
    files: Mapping[str, _Column]
    more: str

    @cached_property
    def _extra(self) -> list[str]:
        found: list[str] = json.loads(self.more)
        return found

    def record(self, place: int) -> UnitRecord:
        """What the marker of one unit says."""
        found = ((table, *(column[place] for column in columns)) for table, columns in self.files.items())
        files = tuple(FileRecord(*file) for file in found if file[1] is not None)  # type: ignore[arg-type]
        return UnitRecord(self.kind, self.digest, self.units[place], files, json.loads(self._extra[place]))

    @property
    def rows(self) -> int:
        """Rows of all tables of all units."""
        return sum(filter(None, (rows for _, column, _ in self.files.values() for rows in column)))

    @property
    def size(self) -> int:
        """Bytes of all files of all units."""
        return sum(filter(None, (size for column, _, _ in self.files.values() for size in column)))

    def texts(self) -> Iterator[str]:
        """Canonical JSON of each unit: its name, then each table with its checksum."""
        columns = [
            [f',["{table}","{digest}"]' if digest is not None else "" for digest in digests]
            for table, (_, _, digests) in self.files.items()
        ]
        for unit, *files in zip(self.units, *columns, strict=True):
            yield f'["{unit}"{"".join(files)}]'

    def encode(self) -> bytes:
        """The pack as its file holds it: two lines of JSON, of which planning reads the first, compressed with gzip."""
        head = {"schema_version": SCHEMA_VERSION, "kind": self.kind, "digest": self.digest}
        body = {**head, "units": list(self.units), "files": self.files}
        lines = (json.dumps(body, separators=(",", ":")), self.more)
        return gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=1, mtime=0)


def pack_file(unit: str) -> str | None:
    """Where the pack of a unit lies, relative to the step's folder; None for a name that does not end in a number.

    >>> pack_file("shard-01234"), pack_file("shard-123456"), pack_file("result")
    ('_packs/shard-01xxx.json.gz', '_packs/shard-123xxx.json.gz', None)
    """
    stem, digits = unit[:-DIGITS], unit[-DIGITS:]
    numbered = stem and len(digits) == DIGITS and digits.isascii() and digits.isdecimal()
    return f"{FOLDER}/{stem}{'x' * DIGITS}.json.gz" if numbered else None


def packed(records: Sequence[UnitRecord]) -> Pack | None:
    """A pack of some units of one step; None if they cannot be told by columns."""
    tables = sorted({table for record in records for table in record.tables})
    if any(list(record.tables) != sorted(set(record.tables)) for record in records):
        return None
    files: dict[str, _Column] = {table: ([], [], []) for table in tables}
    for record in records:
        own = {file.table: file for file in record.files}
        for table, (sizes, rows, sums) in files.items():
            file = own.get(table)
            sizes.append(None if file is None else file.bytes)
            rows.append(None if file is None else file.rows)
            sums.append(None if file is None else file.sha256)
    first = records[0]
    more = canonical_json([canonical_json(record.extra) for record in records])
    return Pack(first.kind, first.digest, [record.unit for record in records], files, more)


def parse_pack(data: bytes, key_path: str, name: str) -> Pack | None:
    """Read a pack; None if it is damaged, of another step, or not of this name.

    Raises:
        IndexscopeError: It was written by a newer Indexscope.
    """
    try:
        first, second, _ = gzip.decompress(data).split(b"\n")
        content, more = json.loads(first), second.decode()
    except (OSError, EOFError, ValueError, RecursionError, zlib.error):
        return None
    if not isinstance(content, dict):
        return None
    refuse_newer(content, f"{key_path}/{name}")
    try:
        pack = Pack(content["kind"], content["digest"], content["units"], content["files"], more)
        whole = f"{pack.kind}/{pack.digest}" == key_path and _is_regular(pack, name)
        return pack if whole else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _is_regular(pack: Pack, name: str) -> bool:
    """Whether names and columns are as they are written: names are never trusted to stay inside the step."""
    count, stem = len(pack.units), name.removeprefix(f"{FOLDER}/").removesuffix(f"{'x' * DIGITS}.json.gz")
    columns: list[Any] = [column for columns in pack.files.values() for column in columns]
    return (
        NAME.fullmatch(f"{stem}0") is not None
        and all(unit[:-DIGITS] == stem and unit[-DIGITS:].isdecimal() for unit in pack.units)
        and all(NAME.fullmatch(table) and len(columns) == 3 for table, columns in pack.files.items())
        and all(len(column) == count for column in columns)
    )


def look_up(step: Folder, path: str, units: Iterable[str]) -> Iterator[tuple[list[str], Pack | None]]:
    """Cut units into runs that share a pack, in their order, each with that pack; None where it has none.

    Args:
        step: The step's folder.
        path: Its path in the store.
        units: Names of the units; so few that they could have no pack are not looked up.

    Yields:
        Up to a thousand units, and a pack that holds some of them.
    """
    cut = (list(run) for _, run in groupby(units, key=itemgetter(slice(None, -DIGITS))))
    runs = ((pack_file(run[0]), run) for run in cut)
    there = step.sizes(FOLDER)
    while window := list(islice(runs, REMOTE_READERS)):
        names = [name for name in dict.fromkeys(name for name, _ in window) if name is not None and name in there]
        read = dict(zip(names, step.read_many(names), strict=True))
        for name, run in window:
            data = None if name is None else read.get(name)
            yield run, None if data is None or name is None else parse_pack(data, path, name)


def write_packs(step: Folder, path: str, units: Sequence[str]) -> int:
    """Write the packs of a step that are not there; of units that are not all committed none is written.

    Args:
        step: The step's folder.
        path: Its path in the store.
        units: All units of the step. Call it when they are known to be whole: those of a pack are believed until they
            are read.

    Returns:
        How many packs were written.

    Raises:
        IndexscopeError: A newer Indexscope wrote something of it, or the store cannot be written.
    """
    written = 0
    if len(units) < LEAST:
        return written
    for run, pack in look_up(step, path, units):
        name = pack_file(run[0])
        if any(pack_file(unit) != name for unit in run) or name is None or (pack and set(run) <= set(pack.units)):
            continue
        markers = [marker_file(unit) for unit in run]
        before = step.read_many(markers)
        pairs = zip(run, before, strict=True)
        records = [None if data is None else parse_marker(data, path, unit) for unit, data in pairs]
        known = [record for record in records if record is not None]
        made = packed(known) if len(known) == len(run) else None
        if made is None:
            continue
        step.write(name, made.encode())
        if step.read_many(markers) != before:
            step.remove(name)
        else:
            written += 1
    return written


@contextmanager
def unmarked(step: Folder, unit: str) -> Iterator[None]:
    """Take the marker of a unit away; whatever the block puts in its place, no pack tells of the one before."""
    pack = pack_file(unit)
    for name in (pack, marker_file(unit)):
        if name is not None:
            step.remove(name)
    try:
        yield
    finally:
        if pack is not None:
            step.remove(pack)


def look_at(step: Folder, path: str, units: Sequence[str]) -> dict[str, tuple[UnitStatus, UnitRecord | None]]:
    """The status of a few units and the records of those that are committed, without listing all others.

    Args:
        step: The step's folder.
        path: Its path in the store.
        units: Names of the units.

    Raises:
        IndexscopeError: A newer Indexscope wrote one.
    """

    def look(unit: str) -> tuple[UnitStatus, UnitRecord | None]:
        try:
            data = step.read(marker_file(unit))
        except FileNotFoundError:
            return "missing", None
        record = parse_marker(data, path, unit)
        if record is None or not record.matches({name: step.size(name) for name in record.names}):
            return "damaged", None
        return "committed", record

    if step.is_local:
        return {unit: look(unit) for unit in units}
    with ThreadPoolExecutor(REMOTE_READERS) as pool:
        return dict(zip(units, pool.map(look, units), strict=True))
