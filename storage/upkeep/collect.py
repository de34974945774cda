"""Collecting garbage: deleting what no study refers to, and never what a running one uses."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from indexscope.errors import IndexscopeError
from indexscope.storage.store import packs, passes
from indexscope.storage.store.files import STALE_SECONDS, TEMPORARY, Folder
from indexscope.storage.store.keys import DIGEST_LENGTH, NAME
from indexscope.storage.store.records import marker_file, parse_manifest
from indexscope.storage.store.store import READERS, Store
from indexscope.storage.studies.choice import named
from indexscope.storage.studies.history import history_files
from indexscope.storage.studies.records import ALIVE, Notice, StudyRecord, read_records

MANIFEST, COMMITS, PACKS, LOCK = "manifest.json", "_commits/", f"{packs.FOLDER}/", ".lock"
#: Files deleted between two looks at the clock.
BATCH = 256
#: What Indexscope itself writes into a step's folder; nothing else is ever deleted.
OWN = re.compile(
    rf"(?P<step>(?:{NAME.pattern}/)+[0-9a-f]{{{DIGEST_LENGTH}}})"
    rf"/(?P<file>manifest\.json|_commits/{NAME.pattern}\.json|{PACKS}{NAME.pattern}\.json\.gz"
    rf"|{passes.FOLDER}/{NAME.pattern}{re.escape(passes.SUFFIX)}|{NAME.pattern}/{NAME.pattern}\.parquet)"
)


@dataclass(frozen=True)
class Garbage:
    """A step that no study refers to, or files in a step that were never committed or are needed no more.

    Attributes:
        step: Path of the step.
        label: What people call it; empty if nobody said.
        files: Names relative to the step, in the order of deletion: packs, then markers, so that one that is cut off
            leaves no unit that seems whole, and the manifest last, so that what is left is found again.
        bytes: Size of the files.
        whole: Whether all of the step is to go; else only files that a crash left behind.
    """

    step: str
    label: str
    files: tuple[str, ...]
    bytes: int
    whole: bool


@dataclass(frozen=True)
class Survey:
    """What a collection would delete, and why the rest stays.

    Attributes:
        garbage: What would be deleted.
        outdated: Records of runs that count no longer.
        forgotten: Files of the history of studies that are to be forgotten; that of the others stays, whatever is
            collected.
        kept: Steps that stay.
        newer: Steps that nobody refers to but a newer Indexscope wrote; they stay.
        studies: Names of the studies whose results stay.
        running: Names of those that are running.
    """

    garbage: tuple[Garbage, ...]
    outdated: tuple[StudyRecord, ...]
    forgotten: tuple[str, ...]
    kept: int
    newer: int
    studies: tuple[str, ...]
    running: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of what would be deleted."""
        return sum(part.bytes for part in self.garbage)


def counting(records: Iterable[StudyRecord], keep: timedelta, now: datetime) -> list[StudyRecord]:
    """The records that keep their steps from being collected.

    Of every study these are its newest run, its newest run that made everything, the newest since then that made all
    but what models that failed would have had, every run that is running, and every run that gave a sign of life within
    ``keep``.
    """
    found: dict[StudyRecord, None] = {}
    studies: dict[str, list[StudyRecord]] = defaultdict(list)
    for record in records:
        studies[record.identity].append(record)
    for runs in studies.values():
        newest = max(runs, key=lambda run: run.seen)
        finished = sorted((run for run in runs if run.complete), key=lambda run: run.seen)
        whole = [run for run in finished if not run.missing][-1:]
        reports = dict.fromkeys([newest, *whole, *finished[-1:]])
        lately = [run for run in runs if run.is_running(now) or now - run.seen <= keep]
        found |= {**reports, **dict.fromkeys(lately)}
    return list(found)


def survey(store: Store, keep: timedelta, forget: Sequence[str] = ()) -> Survey:
    """Find what no study refers to; nothing is changed.

    Args:
        store: The store.
        keep: Runs seen within this time count, even where the study has moved on since.
        forget: Names or identities of studies that no longer count.

    Raises:
        IndexscopeError: The store is empty or has no records, a record cannot be read, or a study to be forgotten is
            unknown or running.
    """
    now = datetime.now(UTC)
    steps = steps_in(store.folder.sizes())
    if not steps:
        raise IndexscopeError(store.url, "holds nothing", "give the folder or URL of a store")
    records = read_records(store)
    if not records:
        reason = "has no record of any study, so nothing would be left of it"
        remedy = "run the study once more (nothing is computed twice) to record what it uses, or delete the folder"
        raise IndexscopeError(store.url, reason, remedy)
    forgotten = _forgotten(store, records, forget, now)
    remaining = [record for record in records if record not in forgotten]
    counted = counting(remaining, keep, now)
    running = [record for record in counted if record.is_running(now)]
    used = {step for record in counted for step in record.steps}
    in_work = {step for record in running for step in record.steps}
    garbage, newer = [], 0
    for step, files in steps.items():
        label = _label(store.folder.child(step)) if step not in used else ""
        if label is None:
            newer += 1
        elif step not in used:
            garbage.append(Garbage(step, label, _deletion_order(files), sum(files.values()), whole=True))
        elif step not in in_work:
            names = _uncommitted(store.folder.child(step), files, now)
            if names:
                garbage.append(Garbage(step, "", names, sum(files[name] for name in names), whole=False))
    return Survey(
        garbage=tuple(garbage),
        outdated=tuple(record for record in records if record not in counted),
        forgotten=tuple(history_files(store, {record.identity for record in forgotten}) if forgotten else ()),
        kept=len(steps) - sum(part.whole for part in garbage),
        newer=newer,
        studies=tuple(dict.fromkeys(record.study for record in counted)),
        running=tuple(dict.fromkeys(record.study for record in running)),
    )


def collect(store: Store, found: Survey, progress: Callable[[], None] = lambda: None) -> list[Garbage]:
    """Delete what a survey found, but for what a study has begun to use since.

    Args:
        store: The store.
        found: The survey.
        progress: Called after every step.

    Returns:
        What was deleted.

    Raises:
        IndexscopeError: The store cannot be written, or this collector was held up for so long that a study may have
            begun to use what was found; running it again is safe.
    """
    deleted = []
    notice = Notice(store, secrets.token_hex(6), [part.step for part in found.garbage])
    try:
        # A run since the survey has written another record, so only those that are unchanged are outdated.
        records = [record for record in read_records(store) if record not in found.outdated]
        now = datetime.now(UTC)
        used = {step for record in records for step in record.steps}
        in_work = {step for record in records if record.is_running(now) for step in record.steps}
        for part in found.garbage:
            if part.step in (used if part.whole else in_work):
                continue
            notice.renew()
            _delete(store.folder.child(part.step), part, notice.renew)
            deleted.append(part)
            progress()
        for record in read_records(store):
            if record in found.outdated:
                store.folder.remove(record.file)
        resumed = {record.identity for record in records}
        for name in found.forgotten:
            if name.split("/")[1] not in resumed:
                store.folder.remove(name)
        store.folder.remove_stale()
    finally:
        notice.close()
    return deleted


def steps_in(sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Size of every file of Indexscope's, by step and by name within it."""
    steps: dict[str, dict[str, int]] = defaultdict(dict)
    for name, size in sizes.items():
        if match := OWN.fullmatch(name):
            steps[match["step"]][match["file"]] = size
    return dict(sorted(steps.items()))


def _forgotten(store: Store, records: Sequence[StudyRecord], names: Sequence[str], now: datetime) -> list[StudyRecord]:
    known = {record.identity: record.study for record in records}
    wanted = {identity for name in names for identity in named(store, known, name)}
    forgotten = [record for record in records if record.identity in wanted]
    for record in forgotten:
        if record.is_running(now):
            remedy = f"wait for it to end, or, if it was killed, until {ALIVE} have passed since"
            raise IndexscopeError(record.study, "is running, so its results cannot be forgotten", remedy)
    return forgotten


def _label(step: Folder) -> str | None:
    """What people call a step; None if a newer Indexscope wrote it."""
    try:
        manifest = parse_manifest(step.read(MANIFEST), step.url)
    except FileNotFoundError:
        return ""
    except IndexscopeError:
        return None
    return manifest.label if manifest else ""


def _deletion_order(files: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(files, key=lambda name: (_stage(name), name)))


def _stage(name: str) -> int:
    """When a file is deleted: packs, then markers, then tables, last the manifest."""
    return 3 if name == MANIFEST else 0 if name.startswith(PACKS) else 1 if name.startswith(COMMITS) else 2


def _uncommitted(step: Folder, files: Collection[str], now: datetime) -> tuple[str, ...]:
    """What a run that died left and nobody has gone on with for a day: tables without a marker, and passes.

    Of a unit that is committed a pass is over.
    """
    old = now - timedelta(seconds=STALE_SECONDS)
    over = [name for name in files if (unit := passes.unit_of(name)) is not None and marker_file(unit) in files]
    left = [name for name in files if name.endswith(".parquet") and _marker_of(name) not in files]
    left += [name for name in files if passes.unit_of(name) is not None and name not in over]
    return (*over, *(name for name in left if (stamp := step.modified(name)) is not None and stamp < old))


def _marker_of(name: str) -> str:
    return marker_file(name.rpartition("/")[2].removesuffix(".parquet"))


def _delete(step: Folder, part: Garbage, renew: Callable[[], None]) -> None:
    with ThreadPoolExecutor(READERS) as pool:
        for _, stage in groupby(part.files, _stage):
            names = list(stage)
            for start in range(0, len(names), BATCH):
                renew()
                list(pool.map(step.remove, names[start : start + BATCH]))
    if part.whole and step.is_local:
        _remove_empty(Path(step.root))


def _remove_empty(folder: Path) -> None:
    """Remove a step's empty folders, with the locks and temporary files in them."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            if name.startswith(".") and (name == LOCK or name.endswith(TEMPORARY)):
                Path(place, name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something of somebody else's is in it
            Path(place).rmdir()
