"""Some samples of the close-up again: without indexer heads, and with other chunks, tie-breaks and precisions."""

from __future__ import annotations

from indexscope.storage.inputs.samples import spread
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.features import StoredFeatures
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    how = given.extract.model_dump(mode="json", include={"chunk", "dtype"})
    return run_on(given, {**how, **given.closeup.model_dump(mode="json", include={"rerun_samples", "removal_samples"})})


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.closeup.run import rerun_samples

    looked = StoredFeatures(store, [(source.key, source.units) for source in job.sources])
    with running(job) as (source, journal, facts):
        given, samples = job.given, job.samples.value
        tables = rerun_samples(source, samples, given.closeup, given.extract, looked, journal, job.workers)
        return Made(tables, facts())


STEP = Step(
    "reruns",
    "extract",
    "reruns",
    _compute,
    (Reads("closeup"),),
    runs_model=True,
    samples=lambda samples, given: spread(samples, given.closeup.samples),
    settings=_settings,
    version=version_of("indexscope.analysis.closeup.run", "RERUN_VERSION"),
    declares=("indexscope.analysis.closeup.tables:RERUN_TABLES",),
    place=25,
)
