"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ComparisonSettings
from indexscope.metrics import MetricsFile
from storage.store import StepKey, Store
from tasks.own_metrics import own_metrics
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

RESULT = "result"


@dataclass(frozen=True)
class ComparisonJob:
    """One comparison to make.

    Attributes:
        target: Where the result goes.
        study: What people call the study.
        models: Model name to its analyses: analysis name to step.
        baseline: Name of the baseline among them.
        settings: Resamples, confidence, seed and margins.
        metrics: Files of the study's own metrics.
    """

    target: Target
    study: str
    models: Mapping[str, Mapping[str, StepKey]]
    baseline: str
    settings: ComparisonSettings
    metrics: tuple[MetricsFile, ...] = ()

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"compare {self.study}"


@task(name="compare", task_run_name="{job.title}", **OPTIONS)
def compare_models(job: ComparisonJob) -> StepRecord | State[StepRecord]:
    """The comparison table, that by context length, and how patterns moved between clusters and types."""

    def compute(store: Store) -> Tables:
        from analysis.clustering.transitions import transitions
        from analysis.comparison import compare, compare_lengths

        assignments = {
            name: store.read(keys["clustering"], "assignments", [RESULT]) for name, keys in job.models.items()
        }
        lengths = {name: store.read(keys["length"], "by_sample", [RESULT]) for name, keys in job.models.items()}
        with own_metrics(job.metrics):
            compared = compare(StoredModels(store, job.models), job.baseline, job.settings)
        by_length = compare_lengths(lengths, job.baseline, job.settings)
        moves = transitions(assignments, job.baseline, job.settings)
        return {"comparisons": compared, "by_length": by_length, **moves}

    return perform(job.target, compute)


class StoredModels(Mapping[str, Tables]):
    """What is compared of each model, read when it is asked for: the samples of many models would fill the memory."""

    def __init__(self, store: Store, models: Mapping[str, Mapping[str, StepKey]]) -> None:
        self._store, self._models = store, models

    def __getitem__(self, name: str) -> Tables:
        from analysis.comparison import combine

        return combine(read_analyses(self._store, self._models[name], ("metrics", "per_sample")))

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def read_analyses(
    store: Store, keys: Mapping[str, StepKey], only: Sequence[str] | None = None
) -> dict[str, dict[str, pl.DataFrame]]:
    """The result tables of a model's analyses, or only some of them, by analysis."""
    return {
        name: {table: store.read(key, table, [RESULT]) for table in store.tables(key) if only is None or table in only}
        for name, key in keys.items()
    }
