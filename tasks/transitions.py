"""How attention maps moved between clusters and pattern types, from the baseline to each candidate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from indexscope.storage.store.store import StepKey, Store
from indexscope.tasks.common.comparing import settings
from indexscope.tasks.common.declared import RESULT, Job, Made, Reads, Step


class _Parts(Iterable[pl.DataFrame]):
    """A result table part by part, read anew whenever it is gone through."""

    def __init__(self, store: Store, key: StepKey, table: str) -> None:
        self._store, self._key, self._table = store, key, table

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self._store.read_parts(self._key, self._table, RESULT)


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.transitions.run import run

    assignments = {source.model: _Parts(store, source.key, "assignments") for source in job.of("clustering")}
    return Made(run(assignments, next(iter(assignments)), job.given.comparison))


STEP = Step(
    "transitions",
    "compare",
    "transitions",
    _compute,
    (Reads("clustering"),),
    per="study",
    settings=settings,
    declares=("indexscope.analysis.transitions.tables:COMPARED",),
    place=20,
)
