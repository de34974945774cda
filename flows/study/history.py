"""A study's finished runs: put on record when a report is published, read back for the report and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from indexscope import IndexscopeError
from indexscope.analysis.history.numbers import kept
from indexscope.analysis.history.timeline import Run, Stretch, stretches
from indexscope.flows.study.changes import inputs_of, told_changes
from indexscope.flows.study.config import Study, identity_of
from indexscope.storage.store.keys import SCHEMA_VERSION
from indexscope.storage.store.store import JSON, StepKey, Store
from indexscope.storage.studies.finished import FinishedStudy
from indexscope.storage.studies.history import FinishedRun, add_run, finished, read_runs
from indexscope.storage.studies.records import read_records

#: The part of what is kept that `indexscope.flows.study.changes` reads.
INPUTS = "inputs"


def remember(
    store: Store, study: Study, key: StepKey, report: Mapping[str, Any], say: Callable[[str], None]
) -> list[Stretch]:
    """Put a run that ends now on record, with earlier ones that are not, and return the study's history.

    Args:
        store: The store.
        study: The study.
        key: Its report's step.
        report: The content of its report.json.
        say: Told, in one line, what a user should know.

    A store that cannot be written keeps no record; the history then ends with this run all the same.
    """
    identity = identity_of(study)
    runs = read_runs(store, identity)
    numbers = _numbers(key.inputs, report)
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
        if record.identity == identity and record.complete and record.ended and record.report not in ("", *known):
            yield _from_report(FinishedStudy(store, record), record.ended)


def _from_report(run: FinishedStudy, ended: datetime) -> FinishedRun:
    lost = FinishedRun(run.name, ended, run.record.report, run.record.report, None)
    try:
        manifest = run.store.manifest(run.report_key)
        if manifest is None:
            return replace(lost, problem="its report was collected")
        if manifest.schema_version != SCHEMA_VERSION:
            return replace(lost, problem="its report is of an older Indexscope")
        return finished(run.name, run.record.report, _numbers(manifest.inputs, run.report), ended)
    except IndexscopeError as error:
        return replace(lost, problem=f"its report {error.reason}")
    except (KeyError, TypeError, ValueError):
        return replace(lost, problem="its report is of another Indexscope")


def _numbers(inputs: Mapping[str, JSON], report: Mapping[str, Any]) -> dict[str, Any]:
    return {**kept(report), INPUTS: inputs_of(inputs, report)}
