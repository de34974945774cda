"""What studies use of a store: a record for each run, with a sign of life, so that nothing in use is ever collected.

``_studies/<study>/<run>.json`` names the steps of one run; ``_studies/_collecting/<id>.json`` names the steps that are
being deleted right now. A run first writes its record and then looks for collectors; a collector first writes its
notice and then reads the records. So one of the two always sees the other, on a disk and in a bucket, without a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from indexscope import __version__
from indexscope.errors import IndexscopeError
from indexscope.foreign import json_object, reading
from indexscope.storage.store.files import Folder
from indexscope.storage.store.json_types import canonical_json, is_sealed, pretty_json, sealed_json
from indexscope.storage.store.keys import NAME, SCHEMA_VERSION
from indexscope.storage.store.records import refuse_newer
from indexscope.storage.store.store import Store

STUDIES = "_studies"
COLLECTING = f"{STUDIES}/_collecting"
#: A running study says this often that it lives.
BEAT_SECONDS = 60.0
REPORTS = "reports/"
#: A run that has said nothing for so long is dead. Far above any beat, so that machines' clocks may differ.
ALIVE = timedelta(hours=1)
#: A collector's notice that has not changed for so long was left by one that died.
STALE_NOTICE_SECONDS = 120.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class StudyRecord:
    """What one run of a study uses.

    Attributes:
        study: The study's name, for people.
        identity: What tells it from other studies of that name; a folder below ``_studies``.
        models: Path of the features of each model, by name, baseline first.
        steps: Paths of all steps it uses, "<kind>/<digest>", sorted.
        started: When the run began, UTC.
        seen: Its last sign of life, UTC.
        ended: When it ended; None while it runs, and for ever if it was killed.
        complete: Whether it made everything that it names.
        missing: Models of the study that failed, so that the run went on without them and does not name them.
    """

    study: str
    identity: str
    models: Mapping[str, str] = field(hash=False)
    steps: tuple[str, ...]
    started: datetime
    seen: datetime
    ended: datetime | None = None
    complete: bool = False
    missing: tuple[str, ...] = ()

    @property
    def run(self) -> str:
        """Digest of what is used: the same plan run again has the same record."""
        text = canonical_json({"models": list(self.models.items()), "steps": self.steps})
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def file(self) -> str:
        """Where the record lies in the store."""
        return f"{STUDIES}/{self.identity}/{self.run}.json"

    @property
    def report(self) -> str:
        """Path of the report's step; empty if the run makes none."""
        return next((path for path in self.steps if path.startswith(REPORTS)), "")

    def is_running(self, now: datetime) -> bool:
        """Whether the run has not ended and has lately said that it lives."""
        return self.ended is None and now - self.seen < ALIVE

    def encode(self) -> bytes:
        """The record as its file holds it."""
        return sealed_json(
            {
                "schema_version": SCHEMA_VERSION,
                "indexscope_version": __version__,
                "study": self.study,
                "identity": self.identity,
                "models": [{"name": name, "features": path} for name, path in self.models.items()],
                "steps": self.steps,
                "started": self.started.isoformat(),
                "seen": self.seen.isoformat(),
                "ended": None if self.ended is None else self.ended.isoformat(),
                "complete": self.complete,
                **({"missing": self.missing} if self.missing else {}),
            }
        )


def new_record(
    study: str, identity: str, models: Mapping[str, str], steps: Sequence[str], missing: Sequence[str] = ()
) -> StudyRecord:
    """The record of a run that begins now.

    Args:
        study: The study's name.
        identity: Lower-case letters, digits and dashes.
        models: Path of the features of each model, by name.
        steps: Paths of all steps that the run uses.
        missing: Models that it goes on without.
    """
    if not NAME.fullmatch(identity):
        raise ValueError(f"{identity!r} cannot name a study's folder")
    now = datetime.now(UTC)
    return StudyRecord(study, identity, dict(models), tuple(sorted(set(steps))), now, now, missing=tuple(missing))


def read_records(store: Store) -> list[StudyRecord]:
    """Every run's record, by study and then from the oldest sign of life to the newest.

    Raises:
        IndexscopeError: A record is of a newer Indexscope or cannot be read: what it uses is not known.
    """
    records = [record for name in record_files(store) if (record := read_record(store, name)) is not None]
    return sorted(records, key=lambda record: (record.identity, record.seen, record.run))


def record_files(store: Store) -> list[str]:
    """Where the records of runs lie in a store."""
    return [name for name in store.folder.sizes(STUDIES) if name.endswith(".json") and f"{COLLECTING}/" not in name]


@contextlib.contextmanager
def in_use(store: Store, record: StudyRecord, report: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Keep a run's steps from being collected while the block runs, and on record afterwards.

    Args:
        store: The store.
        record: The run.
        report: Told, in one line, what a user should know.

    Yields:
        A function to call when everything that the record names has been made.

    A store that cannot be written is used without a record: whoever has everything computed may still read it.
    """
    complete = threading.Event()
    over = threading.Event()
    try:
        store.folder.write(record.file, record.encode())
    except (IndexscopeError, OSError) as error:
        report(f"note: the store keeps no record of this run, so a gc would not spare what it uses ({error})")
        yield complete.set
        return
    _wait_for_collectors(store.folder, record, report)
    beat = threading.Thread(target=_beat, args=(store.folder, record, over), name="sign of life", daemon=True)
    beat.start()
    try:
        yield complete.set
    finally:
        over.set()
        beat.join()
        now = datetime.now(UTC)
        ended = replace(record, seen=now, ended=now, complete=complete.is_set())
        with contextlib.suppress(IndexscopeError, OSError):  # it then looks killed, and is kept as such
            store.folder.write(record.file, ended.encode())


class Notice:
    """A collector's word that it is deleting some steps; others must not begin to use them meanwhile.

    Args:
        store: The store.
        identity: A name that no other collector has.
        steps: Paths of the steps.
    """

    def __init__(self, store: Store, identity: str, steps: Sequence[str]) -> None:
        self._folder, self._steps = store.folder, list(steps)
        self._name = f"{COLLECTING}/{identity}.json"
        self._written, self._beats = 0.0, 0
        self._write()

    def renew(self) -> None:
        """Say that the collector lives; call it before every deletion.

        Raises:
            IndexscopeError: The machine slept so long that others may take this collector for dead.
        """
        age = time.time() - self._written
        if not 0 <= age < STALE_NOTICE_SECONDS / 2:
            raise IndexscopeError(self._folder.url, "was not cleaned up to the end: gc was held up", "run it again")
        if age > STALE_NOTICE_SECONDS / 20:
            self._write()

    def close(self) -> None:
        """Let others use the store again."""
        self._folder.remove(self._name)

    def _write(self) -> None:
        self._beats += 1
        self._folder.write(self._name, pretty_json({"steps": self._steps, "beat": self._beats}))
        self._written = time.time()


def _beat(folder: Folder, record: StudyRecord, over: threading.Event) -> None:
    while not over.wait(BEAT_SECONDS):
        with contextlib.suppress(IndexscopeError, OSError):  # the next beat may get through
            folder.write(record.file, replace(record, seen=datetime.now(UTC)).encode())


def _wait_for_collectors(folder: Folder, record: StudyRecord, report: Callable[[str], None]) -> None:
    """Wait while a living collector deletes steps that this run uses; what it deleted is then computed again."""
    since: dict[str, tuple[bytes, float]] = {}
    while True:
        notices = _notices(folder)
        busy = {name: data for name, data in notices.items() if _steps_of(data) & set(record.steps)}
        if not busy:
            return
        if not since:
            report("waiting for a gc that is deleting results which this study uses; they will be computed again")
        for name, data in busy.items():
            known, first = since.setdefault(name, (data, time.monotonic()))
            if known != data:
                since[name] = (data, time.monotonic())
            elif time.monotonic() - first > STALE_NOTICE_SECONDS:
                folder.remove(name)
        time.sleep(POLL_SECONDS)


def _notices(folder: Folder) -> dict[str, bytes]:
    found = {}
    for name in folder.sizes(COLLECTING):
        with contextlib.suppress(FileNotFoundError):
            found[name] = folder.read(name)
    return found


def _steps_of(notice: bytes) -> set[str]:
    steps = (json_object(notice) or {}).get("steps")
    return {step for step in steps if isinstance(step, str)} if isinstance(steps, list) else set()


def read_record(store: Store, name: str) -> StudyRecord | None:
    """Read the record of a run; None if it has been dropped since it was listed.

    Raises:
        IndexscopeError: A newer Indexscope wrote it, or it is not as it was written.
    """
    where = f"{store.url.rstrip('/')}/{name}"
    remedy = "delete it if the study may be forgotten; running the study writes a new one"
    try:
        data = store.folder.read(name)
    except FileNotFoundError:
        return None
    content = json_object(data)
    if content is None:
        raise IndexscopeError(where, "is not a readable record of a study", remedy)
    refuse_newer(content, where)
    if not is_sealed(content, data):
        raise IndexscopeError(where, "is not as it was written", remedy)
    with reading(where, remedy, "is not a readable record of a study"):
        record = _parse(content)
    if record.file != name:
        raise IndexscopeError(where, "is the record of another run", remedy)
    return record


def _parse(content: Any) -> StudyRecord:
    ended = content["ended"]
    return StudyRecord(
        study=str(content["study"]),
        identity=str(content["identity"]),
        models={str(model["name"]): str(model["features"]) for model in content["models"]},
        steps=tuple(str(step) for step in content["steps"]),
        started=_time(content["started"]),
        seen=_time(content["seen"]),
        ended=None if ended is None else _time(ended),
        complete=bool(content["complete"]),
        missing=tuple(str(name) for name in content.get("missing", ())),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
