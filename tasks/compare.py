"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from indexscope.storage.store import Store
from indexscope.tasks.common.comparing import settings
from indexscope.tasks.common.declared import RESULT, Job, Made, Reads, Step
from indexscope.tasks.common.own_metrics import own_metrics
from indexscope.tasks.common.results import StoredModels, by_model


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.comparison import compare, compare_lengths

    models, how = by_model(job.sources), job.given.comparison
    baseline = next(iter(models))
    lengths = {name: store.read(keys["length"], "by_sample", [RESULT]) for name, keys in models.items()}
    with own_metrics(job.metrics):
        compared = compare(StoredModels(store, models), baseline, how)
    return Made({"comparisons": compared, "by_length": compare_lengths(lengths, baseline, how)})


def _version() -> int:
    from indexscope.analysis.comparison import VERSION

    return VERSION


STEP = Step(
    "compare",
    "compare",
    "comparisons",
    _compute,
    (Reads("[analyze]"),),
    per="study",
    settings=settings,
    version=_version,
    declares=("indexscope.analysis.compared:COMPARED",),
    place=10,
)
