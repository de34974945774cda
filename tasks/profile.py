"""What a model is made of, and what its parts cost on this machine: facts, layers, latency, memory, operations."""

from __future__ import annotations

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    relevant = {"chunk", "batch", "dtype", "profile_lengths", "profile_repeats"}
    return run_on(given, given.extract.model_dump(mode="json", include=relevant))


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.capture.anatomy import anatomy_of
    from indexscope.analysis.capture.facts import model_facts
    from indexscope.analysis.capture.layers import layer_facts
    from indexscope.analysis.capture.profile import profile_model
    from indexscope.analysis.features.attempt import Attempt
    from indexscope.tasks.common.laid_over import fit_of

    settings = job.given.extract
    with running(job) as (source, journal, facts):
        tokens = [len(sample.input_ids) for sample in job.samples.value]
        chunk = Attempt(source, settings, journal).chunk(settings.batch, max(tokens))
        found = anatomy_of(source)
        made, layers = model_facts(source, found), layer_facts(source)
        tables = {
            "facts": made.with_columns(chunk=chunk),
            "layers": layers,
            "profile": profile_model(source, settings, journal, made, layers, found, tokens),
        }
        return Made(tables | fit_of(job.checkpoint), facts())


STEP = Step(
    "profile",
    "extract",
    "profiles",
    _compute,
    runs_model=True,
    timed=True,
    samples=lambda samples, given: samples,
    settings=_settings,
    version=version_of("indexscope.analysis.capture.profile", "PROFILE_VERSION"),
    declares=("indexscope.analysis.capture.tables:PROFILED", "indexscope.analysis.fitting.tables:LEARNED"),
    place=30,
)
