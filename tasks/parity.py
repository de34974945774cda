"""How far dumped selections are the baseline's, and where they part: all samples of each dump put together."""

from __future__ import annotations

from indexscope.storage.store.store import Store
from indexscope.tasks.common.comparing import settings
from indexscope.tasks.common.declared import Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.features import StoredFeatures


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.parity.run import run

    dumps = {source.model: StoredFeatures(store, [(source.key, source.units)]) for source in job.sources}
    return Made(run(dumps, job.given.comparison))


STEP = Step(
    "parity",
    "compare",
    "parity",
    _compute,
    (Reads("parity_rows"),),
    per="study",
    settings=settings,
    version=version_of("indexscope.analysis.parity.run"),
    declares=("indexscope.analysis.parity.tables:COMPARED",),
    place=50,
)
