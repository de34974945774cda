"""A dump's rows held against the baseline, a shard of samples at a time; the model is not run where that is a dump."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.dumps import Dump
from indexscope.tasks.common.running import run_on, running

if TYPE_CHECKING:
    from indexscope.analysis.parity.records import Dumped


def _settings(given: Given) -> dict[str, JSON]:
    settings = given.extract.model_dump(mode="json", include={"chunk", "dtype"})
    settings |= given.analyses.parity.model_dump(mode="json")
    settings |= {"evidence": given.evidence} if given.evidence else {}
    return {**run_on(given, settings), "dumps": list(given.dumps), "shard_size": given.shard_size}


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.parity.dumps import parity_dumps
    from indexscope.analysis.parity.watch import parity_samples
    from indexscope.tasks.common.running import tell

    samples, tolerance = job.samples.value, job.given.analyses.parity.tie_tolerance
    dump = _opened(job.dumps[0])
    if len(job.dumps) > 1:
        journal = Journal(tell)
        tables = parity_dumps(_opened(job.dumps[1]), samples, dump, tolerance, journal)
        return Made(tables, {"notes": list(journal.notes)})
    with running(job) as (model, journal, facts):
        tables = parity_samples(model, samples, dump, tolerance, job.given.extract, journal, job.workers)
        return Made(tables, facts())


def _opened(dump: Dump) -> Mapping[int, Dumped]:
    from indexscope.analysis.parity.records import Dumped
    from indexscope.storage.inputs.selections.dumps import open_rows

    return {
        index: Dumped(
            record.name,
            record.tokens,
            record.first,
            record.rows,
            record.layers or 1,
            record.named,
            partial(open_rows, record),
        )
        for index, record in dump.records.items()
    }


STEP = Step(
    "parity_rows",
    "extract",
    "parity_rows",
    _compute,
    per="dump",
    runs_model=True,
    sharded=True,
    settings=_settings,
    version=version_of("indexscope.analysis.parity.watch"),
    declares=("indexscope.analysis.parity.tables:ROWS",),
    place=50,
)
