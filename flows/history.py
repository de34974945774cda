"""A study's finished runs: put on record when a report is published, read back for the report and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from indexscope import IndexscopeError
from indexscope.analysis.history import Run, Stretch, kept, stretches
from indexscope.flows.changes import inputs_of, told_changes
from indexscope.flows.config import Study, identity_of
from indexscope.storage.history import FinishedRun, add_run, finished, read_runs
from indexscope.storage.keys import SCHEMA_VERSION
from indexscope.storage.store import StepKey, Store
from indexscope.storage.studies import StudyRecord, read_records

REPORTS = "reports/"
#: The part of what is kept that `indexscope.flows.changes` reads.
INPUTS = "inputs"


def remember(
    store: Store, study: Study, key: StepKey, files: dict[str, str], say: Callable[[str], None]
) -> list[Stretch]:
    """Put a run that ends now on record, with earlier ones that are not, and return the study's history.

    Args:
        store: The store.
        study: The study.
        key: Its report's step.
        files: The report's files as they are stored.
        say: Told, in one line, what a user should know.

    A store that cannot be written keeps no record; the history then ends with this run all the same.
    """
    identity = identity_of(study)
    runs = read_runs(store, identity)
    numbers = _numbers(key, json.loads(files["report.json"]))
    now = finished(study.name, key.path, numbers, datetime.now(UTC))
    earlier = [run for run in _unrecorded(store, identity, runs) if run.report != key.path]
    try:
        for run in (*earlier, now):
            if run.numbers is not None:
                add_run(store, study.name, identity, run.report, run.numbers, run.ended)
    except (IndexscopeError, OSError) as error:
        say(f"note: the store keeps no history of this run ({error})")
    return history_of([*runs, *earlier, now])


def past(store: Store, identity: str) -> list[FinishedRun]:
    """A study's finished runs, and those of which only the report tells, oldest first."""
    runs = read_runs(store, identity)
    return sorted([*runs, *_unrecorded(store, identity, runs)], key=lambda run: run.ended)


def history_of(runs: Sequence[FinishedRun]) -> list[Stretch]:
    """Finished runs as the analysis wants them, each with what changed before it."""
    found: list[Run] = []
    last: Any = None
    for run in sorted(runs, key=lambda run: (run.ended, run.result)):
        inputs: Any = None if run.numbers is None else run.numbers.get(INPUTS)
        same = bool(found) and found[-1].result == run.result
        changed = "" if same else told_changes(last, inputs)
        found.append(Run(run.ended, run.result, run.numbers, run.problem, changed))
        last = inputs if inputs is not None else last
    return stretches(found)


def _unrecorded(store: Store, identity: str, runs: Sequence[FinishedRun]) -> Iterator[FinishedRun]:
    """Complete runs of which there is only the record of what they used: their reports tell the numbers, if left."""
    known = {run.report for run in runs}
    for record in read_records(store):
        report = next((step for step in record.steps if step.startswith(REPORTS)), "")
        if record.identity == identity and record.complete and record.ended and report and report not in known:
            yield _from_report(store, record, report, record.ended)


def _from_report(store: Store, record: StudyRecord, report: str, ended: datetime) -> FinishedRun:
    lost = FinishedRun(record.study, ended, report, report, None)
    key = StepKey("reports", report.removeprefix(REPORTS), {})
    try:
        manifest = store.manifest(key)
        if manifest is None:
            return replace(lost, problem="its report was collected")
        if manifest.schema_version != SCHEMA_VERSION:
            return replace(lost, problem="its report is of an older Indexscope")
        files = store.read(key, "files")
        content = next(row["content"] for row in files.iter_rows(named=True) if row["name"] == "report.json")
        key = StepKey(key.kind, key.digest, manifest.inputs)
        return finished(record.study, report, _numbers(key, json.loads(content)), ended)
    except IndexscopeError as error:
        return replace(lost, problem=f"its report {error.reason}")
    except (StopIteration, KeyError, TypeError, ValueError):
        return replace(lost, problem="its report is of another Indexscope")


def _numbers(key: StepKey, report: dict[str, Any]) -> dict[str, Any]:
    return {**kept(report), INPUTS: inputs_of(key.inputs, report)}
