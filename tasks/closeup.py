"""The close look at some samples of a model: one unit, since it is a fixed number of samples."""

from __future__ import annotations

from pathlib import Path

from indexscope.storage.inputs.samples import spread
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    how = given.extract.model_dump(mode="json", include={"chunk", "dtype"})
    return {**run_on(given, {**how, **given.closeup.model_dump(mode="json")}), "vocabulary": given.vocabulary}


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.closeup.collect import Vocabulary
    from indexscope.analysis.closeup.run import closeup_samples
    from indexscope.storage.inputs.checkpoints import load_tokenizer
    from indexscope.storage.inputs.vocabulary import vocabulary_pieces

    with running(job) as (model, journal, facts):
        tokenizer = None if job.tokenizer is None else load_tokenizer(Path(job.tokenizer))
        vocabulary = None if tokenizer is None else Vocabulary(*vocabulary_pieces(tokenizer))
        samples, given = job.samples.value, job.given
        tables = closeup_samples(model, samples, given.closeup, given.extract, journal, vocabulary)
        return Made(tables, facts())


STEP = Step(
    "closeup",
    "extract",
    "closeups",
    _compute,
    runs_model=True,
    samples=lambda samples, given: spread(samples, given.closeup.samples),
    settings=_settings,
    version=version_of("indexscope.analysis.closeup.run"),
    declares=("indexscope.analysis.closeup.tables:TABLES",),
    place=20,
)
