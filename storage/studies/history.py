"""What came of a study's finished runs: their numbers, and when each was had, kept beyond the reports themselves.

``_history/<study>/<result>.json`` holds the numbers of one result, once, however often it is had again;
``_history/<study>/<result>/<time>.json`` says that a run ended with it. Every run writes files of its own and none is
ever written over, so runs at the same time cannot spoil each other's, on a disk and in a bucket, without a lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from indexscope import __version__
from indexscope.foreign import json_object
from indexscope.storage.store.json_types import JSON, canonical_json, is_sealed, sealed_json
from indexscope.storage.store.keys import NAME
from indexscope.storage.store.store import Store

HISTORY = "_history"
#: Layout of these files; that of the store's tables may change without them.
FORMAT = 1
_TIME = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True)
class FinishedRun:
    """One finished run of a study.

    Attributes:
        study: The study's name, for people.
        ended: When it ended, UTC.
        result: Digest of what came of it; runs of one result have the same numbers.
        report: Path of the report's step, "reports/<digest>"; empty if it is not known.
        numbers: What was kept of the report; None if it cannot be read.
        problem: Why there are no numbers; empty if there are.
    """

    study: str
    ended: datetime
    result: str
    report: str
    numbers: Mapping[str, JSON] | None = field(hash=False)
    problem: str = ""


def add_run(
    store: Store, study: str, identity: str, report: str, numbers: Mapping[str, JSON], ended: datetime
) -> FinishedRun:
    """Put a finished run on record.

    Args:
        store: The store.
        study: The study's name.
        identity: What tells it from others of that name, as in `indexscope.storage.studies.records`.
        report: Path of the report's step.
        numbers: What is to be kept of the report.
        ended: When the run ended.

    Raises:
        IndexscopeError: The store cannot be written.
    """
    if not NAME.fullmatch(identity):
        raise ValueError(f"{identity!r} cannot name a study's folder")
    run = finished(study, report, numbers, ended)
    file = f"{HISTORY}/{identity}/{run.result}.json"
    content: dict[str, JSON] = {"format": FORMAT, "indexscope_version": __version__, "study": study, "report": report}
    if _parsed(*store.folder.read_many([file]))[1]:
        store.folder.write(file, sealed_json({**content, "numbers": numbers}))
    ended_json: dict[str, JSON] = {"format": FORMAT, "ended": ended.isoformat(), "result": run.result}
    stamp = ended.astimezone(UTC).strftime(_TIME)
    store.folder.write(f"{HISTORY}/{identity}/{run.result}/{stamp}.json", sealed_json(ended_json))
    return run


def finished(study: str, report: str, numbers: Mapping[str, JSON], ended: datetime) -> FinishedRun:
    """A finished run that is not on record."""
    text = canonical_json({"report": report, "numbers": numbers})
    return FinishedRun(study, ended, hashlib.sha256(text.encode()).hexdigest()[:20], report, numbers)


def read_runs(store: Store, identity: str) -> list[FinishedRun]:
    """The finished runs of a study, oldest first; those whose numbers cannot be read say why."""
    start = f"{HISTORY}/{identity}/"
    names = [name.removeprefix(start) for name in store.folder.sizes(start.rstrip("/"))]
    dates = [parts for name in names if len(parts := name.removesuffix(".json").split("/")) == 2]
    results = sorted({result for result, _ in dates})
    files = store.folder.read_many([f"{start}{result}.json" for result in results])
    contents = {result: _parsed(data) for result, data in zip(results, files, strict=True)}
    runs = []
    for result, stamp in dates:
        if (ended := _time(stamp)) is not None:
            content, problem = contents[result]
            study, report = (str(content.get(name, "")) for name in ("study", "report"))
            runs.append(FinishedRun(study, ended, result, report, None if problem else content["numbers"], problem))
    return sorted(runs, key=lambda run: (run.ended, run.result))


def studies(store: Store) -> dict[str, str]:
    """Names of the studies with a finished run on record, by identity."""
    newest: dict[str, str] = {}
    for name in history_files(store):
        parts = name.split("/")
        if len(parts) == 3:
            newest[parts[1]] = name
    files = store.folder.read_many(list(newest.values()))
    contents = (_parsed(data)[0] for data in files)
    return {identity: str(content.get("study", identity)) for identity, content in zip(newest, contents, strict=True)}


def history_files(store: Store, identities: Collection[str] | None = None) -> list[str]:
    """Where finished runs are on record in a store: all, or those of some studies."""
    found = [name for name in store.folder.sizes(HISTORY) if name.endswith(".json")]
    return [name for name in found if identities is None or name.split("/")[1] in identities]


def is_whole(data: bytes) -> bool:
    """Whether a file of the history is as it was written."""
    content = json_object(data)
    return content is not None and is_sealed(content, data)


def _parsed(data: bytes | None) -> tuple[dict[str, Any], str]:
    """The content of a file of numbers, and why it cannot be used; empty if it can."""
    if data is None:
        return {}, "its numbers are gone"
    content = json_object(data)
    if content is None:
        return {}, "its numbers are damaged"
    written = content.get("format")
    if isinstance(written, int) and written > FORMAT:
        return content, "a newer Indexscope wrote it"
    if not is_sealed(content, data) or not isinstance(content.get("numbers"), dict):
        return {}, "its numbers are damaged"
    return content, ""


def _time(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
