"""The close look at some samples of a model: one unit, since it is a fixed number of samples."""

from __future__ import annotations

from pathlib import Path

from indexscope.storage.samples import spread
from indexscope.storage.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    how = given.extract.model_dump(mode="json", include={"chunk", "dtype"})
    return {**run_on(given, {**how, **given.probe.model_dump(mode="json")}), "vocabulary": given.vocabulary}


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.probe import Vocabulary, probe_samples
    from indexscope.storage.checkpoints import load_tokenizer
    from indexscope.storage.vocabulary import vocabulary_pieces

    with running(job) as (model, journal, facts):
        tokenizer = None if job.tokenizer is None else load_tokenizer(Path(job.tokenizer))
        vocabulary = None if tokenizer is None else Vocabulary(*vocabulary_pieces(tokenizer))
        samples, given = job.samples.value, job.given
        tables = probe_samples(model, samples, given.probe, given.extract, journal, vocabulary)
        return Made(tables, facts())


def _version() -> int:
    from indexscope.analysis.probe import PROBE_VERSION

    return PROBE_VERSION


STEP = Step(
    "probe",
    "extract",
    "probes",
    _compute,
    runs_model=True,
    samples=lambda samples, given: spread(samples, given.probe.samples),
    settings=_settings,
    version=_version,
    declares=(
        "indexscope.analysis.budget.tables:PROBED",
        "indexscope.analysis.stability.tables:PROBED",
        "indexscope.analysis.sharing.tables:PROBED",
        "indexscope.analysis.content.tables:PROBED",
        "indexscope.analysis.attended:PROBED",
        "indexscope.analysis.heads.tables:PROBED",
        "indexscope.analysis.probe.maps:PROBED",
        "indexscope.analysis.predictions:PROBED",
    ),
    place=20,
)
