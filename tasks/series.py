"""How the numbers of series go over their members, from what the analyses of each have stored."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from indexscope.storage.store.lazy import Lazy
from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common import comparing
from indexscope.tasks.common.declared import RESULT, Given, Job, Made, Reads, Step
from indexscope.tasks.common.declared_version import version_of
from indexscope.tasks.common.plugins import with_plugins
from indexscope.tasks.common.results import by_model, read_analyses

#: Comparisons whose metrics of candidates are followed too.
COMPARING = ("output_divergence", "selection_changes")
#: What is read of single analyses besides their metrics.
SHAPES = {"clustering": "pattern_types", "indexer_heads": "focus"}


def _settings(given: Given) -> dict[str, JSON]:
    courses: list[JSON] = [
        {"name": one.name, "axis": one.axis, "members": [[member.name, member.at] for member in one.members]}
        for one in given.series
    ]
    return {**comparing.settings(given), "series": courses}


def _compute(job: Job, store: Store) -> Made:
    from indexscope.analysis.comparison.compare import combine
    from indexscope.analysis.metrics.tables import METRICS
    from indexscope.analysis.series.run import run

    steps = by_model(job.sources)
    compared = [store.read(key, "metrics", [RESULT]) for step, key in steps.get("", {}).items() if step in COMPARING]
    models = {name: name for name in steps if name}

    def stored(name: str) -> Mapping[str, pl.DataFrame]:
        own = read_analyses(store, steps[name], ("metrics", "per_sample", *SHAPES.values()))
        found = combine(own)
        paired = [frame.filter(pl.col("candidate") == name).select(*METRICS.schema) for frame in compared]
        shapes = {table: own[step][table] for step, table in SHAPES.items() if table in own.get(step, {})}
        return {**found, "metrics": pl.concat([found["metrics"], *paired]), **shapes}

    with with_plugins(job.plugins):
        return Made(run(job.given.series, Lazy(models, stored), job.given.comparison))


STEP = Step(
    "series",
    "compare",
    "series",
    _compute,
    (Reads("[analyze]"), *(Reads(name, optional=True) for name in COMPARING)),
    per="study",
    settings=_settings,
    version=version_of("indexscope.analysis.series.run"),
    wanted=lambda given: bool(given.series),
    declares=("indexscope.analysis.series.tables:COMPARED",),
    place=60,
)
