"""The metrics that a study declares in files of its own."""

from __future__ import annotations

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.features import StoredFeatures
from indexscope.tasks.common.plugins import code_of, with_plugins


def _settings(given: Given) -> dict[str, JSON]:
    """The content of the files counts, not where they lie."""
    return {"settings": given.analyses.plugins.model_dump(mode="json"), **code_of(given.plugins)}


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.plugins.run import run

    features = StoredFeatures(store, [(source.key, source.units) for source in job.sources])
    with with_plugins(job.plugins) as declared:
        return Made(run(features, job.given.analyses.plugins, declared))


STEP = Step(
    "plugins",
    "analyze",
    "analyses/plugins",
    _compute,
    (Reads("extract"), Reads("plugin_features", optional=True)),
    settings=_settings,
    version=version_of("indexscope.analysis.plugins.run"),
    wanted=lambda given: bool(given.plugins),
    declares=("indexscope.analysis.plugins.tables:RESULTS",),
    place=130,
)
