"""The features of attention that a study declares itself, a shard of samples at a time."""

from __future__ import annotations

from indexscope.storage.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Step
from indexscope.tasks.common.own_metrics import code_of, declared_in
from indexscope.tasks.common.running import run_on, running


def _settings(given: Given) -> dict[str, JSON]:
    """The content of the files counts, not where they lie."""
    relevant = {"chunk", "batch", "dtype", "query_every"}
    return {
        **run_on(given, given.extract.model_dump(mode="json", include=relevant)),
        "shard_size": given.shard_size,
        **code_of(one for one in given.declared if one.is_feature),
    }


def _compute(job: Job, _: Store) -> Made:
    from indexscope.analysis.custom.extract import extract_user_features
    from indexscope.analysis.custom.tables import feature_tables

    declared = [one for one in declared_in(job.metrics) if one.is_feature]
    with running(job) as (model, journal, facts):
        tables = extract_user_features(model, job.samples.value, job.given.extract, declared, journal, job.workers)
        return Made(tables, facts(), feature_tables(declared))


def _version() -> int:
    from indexscope.analysis.custom.extract import USER_FEATURES_VERSION

    return USER_FEATURES_VERSION


STEP = Step(
    "user_features",
    "extract",
    "user_features",
    _compute,
    runs_model=True,
    sharded=True,
    settings=_settings,
    version=_version,
    wanted=lambda given: any(one.is_feature for one in given.declared),
    place=40,
)
