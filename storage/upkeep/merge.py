"""Merging stores: what another machine computed is taken over byte for byte, once it has proved to be whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from indexscope.errors import IndexscopeError
from indexscope.foreign import words
from indexscope.storage.store.files import Folder
from indexscope.storage.store.keys import SCHEMA_VERSION, StepKey
from indexscope.storage.store.packs import unmarked
from indexscope.storage.store.records import FileRecord, Manifest, UnitRecord, marker_file, parse_marker, table_file
from indexscope.storage.store.store import READERS, Store
from indexscope.storage.studies.history import history_files, is_whole
from indexscope.storage.studies.records import StudyRecord, in_use, new_record, read_records
from indexscope.storage.upkeep.collect import steps_in
from indexscope.storage.upkeep.verify import is_of

Fate = Literal["copied", "present", "differs", "damaged"]


@dataclass
class Merged:
    """What became of the units of the other store.

    Attributes:
        copied: Units that this store did not have.
        present: Units that it had already, the same.
        differs: Units that it had already with other bytes, which it keeps: latencies, or floats of another machine.
        damaged: Units of the other store that are not as they were committed, and were left there.
        skipped: Steps that an older Indexscope wrote, or whose manifest cannot be believed.
        bytes: Size of what was copied.
    """

    copied: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    bytes: int = 0


def merge(
    source: Store, target: Store, report: Callable[[str], None], progress: Callable[[], None] = lambda: None
) -> Merged:
    """Bring every whole unit of a store, and its records of studies, into another.

    Safe while studies run on either side, and when it is cut off: running it again goes on where it stopped.

    Args:
        source: The store to read; nothing is written there.
        target: The store to fill.
        report: Told, in one line, what a user should know on the way.
        progress: Called after every step.

    Raises:
        IndexscopeError: The stores are one, the source holds nothing or something that a newer Indexscope wrote, or
            one of them cannot be read or written.
    """
    if _place(source.folder) == _place(target.folder):
        raise IndexscopeError(source.url, "is the store to import into", "give another store")
    try:
        return _merge(source, target, report, progress)
    except OSError as error:
        where, reason = error.filename or target.url, words(error)
        raise IndexscopeError(where, f"stopped the import ({reason})", "run it again to go on") from error


def _place(folder: Folder) -> tuple[object, str]:
    return folder.fs, os.path.realpath(folder.root) if folder.is_local else folder.root


def _merge(source: Store, target: Store, report: Callable[[str], None], progress: Callable[[], None]) -> Merged:
    merged = Merged()
    records = read_records(source)
    steps = list(_believable(source, merged))
    if not steps and not merged.skipped:
        raise IndexscopeError(source.url, "holds nothing", "give the folder or URL of a store")
    name = hashlib.sha256(source.folder.root.encode()).hexdigest()[:8]
    own = new_record("import", f"import-{name}", {}, [key.path for key, _ in steps])
    target.folder.write(own.file, own.encode())  # tells at once that nothing can be written there
    with in_use(target, own, report):
        _take_over(records, target)
        _take_over_history(source, target)
        for key, manifest in steps:
            target.prepare(key, manifest.label, manifest.units)
            for unit in source.units(key):
                fate, size = _copy(source, target, key, unit)
                getattr(merged, fate).append(f"{key.path}/{unit}")
                merged.bytes += size
            progress()
    target.folder.remove(own.file)  # the studies' own records keep what was imported
    return merged


def _believable(source: Store, merged: Merged) -> Iterator[tuple[StepKey, Manifest]]:
    """The steps whose address is what their inputs make it, so that nothing foreign passes for a result."""
    for path in steps_in(source.folder.sizes()):
        kind, _, digest = path.rpartition("/")
        manifest = source.manifest(StepKey(kind, digest, {}))
        if manifest is None or manifest.schema_version != SCHEMA_VERSION or not is_of(manifest, path):
            merged.skipped.append(path)
        else:
            yield StepKey(kind, digest, manifest.inputs), manifest


def _take_over(records: list[StudyRecord], target: Store) -> None:
    known = {record.file: record for record in read_records(target)}
    for record in records:
        mine = known.get(record.file)
        if mine is None or mine.seen < record.seen:
            target.folder.write(record.file, record.encode())


def _take_over_history(source: Store, target: Store) -> None:
    known = set(history_files(target))
    names = [name for name in history_files(source) if name not in known]
    for name, data in zip(names, source.folder.read_many(names), strict=True):
        if data is not None and is_whole(data):
            target.folder.write(name, data)


def _copy(source: Store, target: Store, key: StepKey, unit: str) -> tuple[Fate, int]:
    there, here = source.folder.child(key.path), target.folder.child(key.path)
    marker = there.read(marker_file(unit))
    record = parse_marker(marker, key.path, unit)
    if record is None:
        return "damaged", 0
    existing = target.record(key, unit)
    if existing is not None:
        return _compared(record, existing), 0
    with ThreadPoolExecutor(READERS) as pool:
        contents = list(pool.map(lambda file: _whole(there, file, unit), record.files))
    whole = [data for data in contents if data is not None]
    if len(whole) < len(contents):
        return "damaged", 0
    with ExitStack() as leftovers:
        staged = []
        for name, data in zip((*record.names, marker_file(unit)), (*whole, marker), strict=True):
            staged.append(here.stage(name, data))
            leftovers.callback(staged[-1].discard)
        with here.lock("_commits/.lock"):
            existing = target.record(key, unit)
            if existing is not None:
                return _compared(record, existing), 0
            with unmarked(here, unit):
                for file in staged:
                    file.publish()
    return "copied", record.bytes


def _compared(record: UnitRecord, existing: UnitRecord) -> Fate:
    return "present" if record.files == existing.files else "differs"


def _whole(step: Folder, file: FileRecord, unit: str) -> bytes | None:
    """The bytes of a file, or None if they are not what was committed."""
    try:
        data = step.read(table_file(file.table, unit))
    except FileNotFoundError:
        return None
    return data if len(data) == file.bytes and hashlib.sha256(data).hexdigest() == file.sha256 else None
