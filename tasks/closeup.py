"""The close look at some samples of a model, in the extraction's run where batches are of one sample."""

from __future__ import annotations

from indexscope.storage.inputs.samples import spread
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.looking import CloseLook
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    """What the extraction's run depends on, by rounding at least, and how closely it is looked at."""
    how = given.extract.model_dump(mode="json", include={"chunk", "dtype", "query_every"})
    how["own_run"] = not _along(given)
    close = given.closeup.model_dump(mode="json", exclude={"rerun_samples", "removal_samples"})
    return {**run_on(given, {**how, **close, "shard_size": given.shard_size}), "vocabulary": given.vocabulary}


def _along(given: Given) -> str:
    return "extract" if given.extract.batch == 1 else ""


def _compute(job: Job, _: Store) -> Made:
    """Look in a run of its own: with the extraction's code, so that the same bytes come out as along with it."""
    from indexscope.analysis.closeup.looking import collect_samples
    from indexscope.analysis.features.attempt import Attempt
    from indexscope.analysis.features.extract import extract_samples
    from indexscope.analysis.features.intake import check_samples

    with running(job) as (source, journal, facts):
        look, samples, settings = CloseLook(job, source), job.samples.value, job.given.extract
        if _along(job.given):
            alone = settings.model_copy(update={"dense_reference": False})
            tables = extract_samples(source, samples, alone, journal, job.workers, look)
        else:
            check_samples(source, samples)
            attempt = Attempt(source, settings, journal, job.workers)
            tables = collect_samples(source, samples, look.makers, job.given.closeup.queries, attempt)
        made = look.made(tables, facts())
        return Made(made.tables, made.facts)


STEP = Step(
    "closeup",
    "extract",
    "closeups",
    _compute,
    runs_model=True,
    sharded=True,
    along=_along,
    samples=lambda samples, given: spread(samples, given.closeup.samples),
    settings=_settings,
    version=version_of("indexscope.analysis.closeup.run"),
    declares=("indexscope.analysis.closeup.tables:TABLES",),
    place=20,
)
