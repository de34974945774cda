"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from indexscope.storage.store.store import Store
from indexscope.tasks.common.comparing import settings
from indexscope.tasks.common.declared import RESULT, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.plugins import with_plugins
from indexscope.tasks.common.results import by_model, stored_models

AUDIT = "audit"


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.comparison.compare import compare, compare_at_lengths, compare_lengths
    from indexscope.analysis.leaks import leaks
    from indexscope.analysis.metrics.tables import PREFIXED

    audits = {source.model: store.read(source.key, "audit", [RESULT]) for source in job.of(AUDIT)}
    leaking = [name for name, audit in audits.items() if leaks(audit)]
    models, how = by_model(source for source in job.sources if source.step != AUDIT), job.given.comparison
    baseline = next(iter(models))
    lengths = {name: store.read(keys["context_length"], "by_sample", [RESULT]) for name, keys in models.items()}
    with with_plugins(job.plugins):
        tables = {
            "comparisons": compare(stored_models(store, models), baseline, how, leaking),
            "by_length": compare_lengths(lengths, baseline, how, leaking),
            "compared_at_lengths": compare_at_lengths(
                stored_models(store, models, tuple(PREFIXED)), baseline, how, leaking
            ),
        }
    return Made(tables)


STEP = Step(
    "compare",
    "compare",
    "comparisons",
    _compute,
    (Reads(AUDIT), Reads("[analyze]")),
    per="study",
    settings=settings,
    version=version_of("indexscope.analysis.comparison.compare"),
    declares=("indexscope.analysis.comparison.tables:COMPARED",),
    place=10,
)
