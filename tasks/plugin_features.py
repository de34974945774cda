"""The features of attention that a study declares itself, a shard of samples at a time."""

from __future__ import annotations

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.plugins import code_of, plugins_in
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    """The content of the files counts, not where they lie."""
    relevant = {"chunk", "batch", "dtype", "query_every"}
    return {
        **run_on(given, given.extract.model_dump(mode="json", include=relevant)),
        "shard_size": given.shard_size,
        **code_of(one for one in given.plugins if one.is_feature),
    }


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.plugins.extract import extract_plugin_features
    from indexscope.analysis.plugins.tables import feature_tables

    declared = [one for one in plugins_in(job.plugins) if one.is_feature]
    with running(job) as (model, journal, facts):
        tables = extract_plugin_features(model, job.samples.value, job.given.extract, declared, journal, job.workers)
        return Made(tables, facts(), feature_tables(declared))


STEP = Step(
    "plugin_features",
    "extract",
    "plugin_features",
    _compute,
    runs_model=True,
    sharded=True,
    settings=_settings,
    version=version_of("indexscope.analysis.plugins.extract", "PLUGIN_FEATURES_VERSION"),
    wanted=lambda given: any(one.is_feature for one in given.plugins),
    place=40,
)
