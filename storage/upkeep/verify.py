"""Reading every byte of a store and comparing it with what was committed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from indexscope.errors import IndexscopeError
from indexscope.foreign import words
from indexscope.storage.store.files import Folder
from indexscope.storage.store.keys import SCHEMA_VERSION, step_key
from indexscope.storage.store.packs import FOLDER, parse_pack
from indexscope.storage.store.passes import unit_of
from indexscope.storage.store.records import FileRecord, Manifest, marker_file, parse_manifest, parse_marker, table_file
from indexscope.storage.store.store import MANIFEST, READERS, Store
from indexscope.storage.studies.history import HISTORY, history_files, is_whole
from indexscope.storage.studies.records import STUDIES, read_record, record_files
from indexscope.storage.upkeep.collect import steps_in

#: Bytes of a file in memory at a time; with `READERS` files at once, what a verification needs.
PIECE = 2**22
#: What is said of a pack.
INDEX = "an index of markers, which count without it; --discard removes it"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was committed.

    Attributes:
        kind: Kind of the step; "_studies" for the record of a study, "_history" for what is kept of a finished run.
        digest: Digest of the step; for the record of a study or a finished run, the study's folder.
        unit: The unit; None where the step's manifest, a study's record or a finished run is meant.
        file: The file, relative to the step's folder; None where it is not one file.
        problem: What is wrong with it, after the file's name.
    """

    kind: str
    digest: str
    unit: str | None
    file: str | None
    problem: str


@dataclass(frozen=True)
class VerifySummary:
    """What was verified.

    Attributes:
        units: Units with a marker.
        bytes: Size of their files.
        leftovers: Files that no marker names: of a commit under way, of one that was cut off, or of a pass that was. No
            result is read from them.
    """

    units: int
    bytes: int
    leftovers: int


#: Given how many units there are, a context that yields what is called after each.
Watch = Callable[[int], AbstractContextManager[Callable[[], None]]]


def _unwatched(total: int) -> AbstractContextManager[Callable[[], None]]:
    return nullcontext(lambda: None)


def verify(store: Store, report: Callable[[Finding], None] | None = None, watch: Watch = _unwatched) -> VerifySummary:
    """Compare every manifest, marker and file of a store with its checksum, and every address with its inputs.

    Safe while studies run: what they commit meanwhile is left out, what they replace is read again. Memory does not
    grow with the files, only with their number.

    Args:
        store: The store.
        report: Told of each finding, step by step.
        watch: Follows the progress.

    Raises:
        OSError: The disk or the network failed for good.
    """
    tell = report or (lambda finding: None)
    steps = steps_in(store.folder.sizes())
    jobs = [(path, unit) for path, files in steps.items() for unit in _units(files)]
    for finding in _records(store):
        tell(finding)
    total = leftovers = 0
    with watch(len(jobs)) as advance, ThreadPoolExecutor(READERS) as pool:
        results = pool.map(lambda job: _unit(store.folder.child(job[0]), *job), jobs)
        for path, sizes in steps.items():
            step = store.folder.child(path)
            for finding in (*_step(step, path), *_packs(step, path, sizes)):
                tell(finding)
            named: set[str] = set()
            for _ in _units(sizes):
                files, read, findings = next(results)
                named.update(files)
                total += read
                for finding in findings:
                    tell(finding)
                advance()
            leftovers += sum(name.endswith(".parquet") and name not in named for name in sizes)
            leftovers += sum(unit_of(name) is not None for name in sizes)
    return VerifySummary(len(jobs), total, leftovers)


def _units(files: Collection[str]) -> list[str]:
    """The units that have a marker, from the names of a step's files."""
    return [name[len("_commits/") : -len(".json")] for name in files if re.fullmatch(r"_commits/[^/]+\.json", name)]


def _records(store: Store) -> Iterator[Finding]:
    for name in record_files(store):
        try:
            read_record(store, name)
        except IndexscopeError as error:
            folder, _, file = name.removeprefix(f"{STUDIES}/").partition("/")
            yield Finding(STUDIES, folder, None, file, error.reason)
    names = history_files(store)
    for name, data in zip(names, store.folder.read_many(names), strict=True):
        if data is not None and not is_whole(data):
            folder, _, file = name.removeprefix(f"{HISTORY}/").partition("/")
            yield Finding(HISTORY, folder, None, file, "is not as it was written")


def _step(step: Folder, path: str) -> list[Finding]:
    """What is wrong with a step's manifest."""
    kind, _, digest = path.rpartition("/")
    try:
        manifest = parse_manifest(step.read(MANIFEST), path)
    except FileNotFoundError:
        return [Finding(kind, digest, None, MANIFEST, "is gone, so nobody can say what the step was made from")]
    except IndexscopeError as error:
        return [Finding(kind, digest, None, MANIFEST, error.reason)]
    if manifest is None:
        return [Finding(kind, digest, None, MANIFEST, "is not as it was written")]
    if manifest.schema_version == SCHEMA_VERSION and not is_of(manifest, path):
        return [Finding(kind, digest, None, MANIFEST, "gives other inputs than those that the folder is named after")]
    return []


def is_of(manifest: Manifest, path: str) -> bool:
    """Whether a manifest's inputs are those that the step's folder is named after."""
    try:
        return step_key(manifest.kind, manifest.inputs).path == path
    except (TypeError, ValueError):
        return False


def _packs(step: Folder, path: str, files: Collection[str]) -> list[Finding]:
    """What is wrong with a step's packs: each has to tell what the markers of its units tell."""
    kind, _, digest = path.rpartition("/")
    found = []
    for name in sorted(name for name in files if name.startswith(f"{FOLDER}/")):
        try:
            problem = _pack_problem(step, path, name)
        except IndexscopeError as error:
            problem = error.reason
        if problem:
            found.append(Finding(kind, digest, None, name, problem))
    return found


def _pack_problem(step: Folder, path: str, name: str) -> str:
    while True:
        try:
            data = step.read(name)
        except FileNotFoundError:
            return ""  # a unit of it was discarded since it was listed
        pack = parse_pack(data, path, name)
        if pack is None:
            return f"is not as it was written ({INDEX})"
        markers = step.read_many([marker_file(unit) for unit in pack.units])
        same = all(
            marker is not None and parse_marker(marker, path, unit) == pack.record(place)
            for place, (unit, marker) in enumerate(zip(pack.units, markers, strict=True))
        )
        if same:
            return ""
        if _unchanged(step, name, data):
            return f"is not what the markers of its units say ({INDEX})"


def _unit(step: Folder, path: str, unit: str) -> tuple[tuple[str, ...], int, list[Finding]]:
    """Names of a unit's files, their bytes, and what is wrong with them."""
    kind, _, digest = path.rpartition("/")
    marker = marker_file(unit)
    while True:
        try:
            data = step.read(marker)
        except FileNotFoundError:
            return (), 0, []  # discarded since it was listed
        try:
            record = parse_marker(data, path, unit)
        except IndexscopeError as error:
            return (), 0, [Finding(kind, digest, unit, marker, error.reason)]
        if record is None:
            return (), 0, [Finding(kind, digest, unit, marker, "is not as it was written")]
        problems = [(table_file(file.table, unit), file_problem(step, file, unit)) for file in record.files]
        findings = [Finding(kind, digest, unit, name, problem) for name, problem in problems if problem]
        if not findings or _unchanged(step, marker, data):
            return record.names, record.bytes, findings


def _unchanged(step: Folder, marker: str, data: bytes) -> bool:
    try:
        return step.read(marker) == data
    except FileNotFoundError:
        return False


def file_problem(step: Folder, file: FileRecord, unit: str) -> str | None:
    """What is wrong with a committed file, read piece by piece; None if nothing is."""
    digest, size = hashlib.sha256(), 0
    try:
        with step.open(table_file(file.table, unit)) as source:
            while piece := source.read(PIECE):
                digest.update(piece)
                size += len(piece)
    except FileNotFoundError:
        return "is gone though it was committed"
    except OSError as error:
        return f"cannot be read ({words(error)})"
    if size != file.bytes:
        return f"has {size} bytes where {file.bytes} were committed"
    return None if digest.hexdigest() == file.sha256 else "is not what was committed (checksum differs)"
