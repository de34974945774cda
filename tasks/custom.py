"""The metrics that a study declares in files of its own."""

from __future__ import annotations

from indexscope.storage.store import JSON, Store
from indexscope.tasks.common.declared import Given, Job, Made, Reads, Step
from indexscope.tasks.common.features import StoredFeatures
from indexscope.tasks.common.own_metrics import code_of, own_metrics


def _settings(given: Given) -> dict[str, JSON]:
    """The content of the files counts, not where they lie."""
    return {"settings": given.analyses.custom.model_dump(mode="json"), **code_of(given.declared)}


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.custom import run

    features = StoredFeatures(store, [(source.key, source.units) for source in job.sources])
    with own_metrics(job.metrics) as declared:
        return Made(run(features, job.given.analyses.custom, declared))


def _version() -> int:
    from indexscope.analysis import custom

    return custom.VERSION


STEP = Step(
    "custom",
    "analyze",
    "analyses/custom",
    _compute,
    (Reads("extract"), Reads("user_features", optional=True)),
    settings=_settings,
    version=_version,
    wanted=lambda given: bool(given.declared),
    declares=("indexscope.analysis.custom.tables:RESULTS",),
    place=130,
)
