"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ComparisonSettings
from indexscope.metrics import MetricsFile
from storage.store import StepKey, Store
from tasks.features import StoredFeatures
from tasks.own_metrics import own_metrics
from tasks.results import RESULT as RESULT
from tasks.results import StoredModels
from tasks.results import read_analyses as read_analyses
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform


@dataclass(frozen=True)
class ComparisonJob:
    """One comparison to make.

    Attributes:
        target: Where the result goes.
        study: What people call the study.
        models: Model name to its analyses: analysis name to step.
        baseline: Name of the baseline among them.
        settings: Resamples, confidence, seed and margins.
        outputs: Model name to the steps that hold what it selects and predicts, features and probe, with their units.
        metrics: Files of the study's own metrics.
    """

    target: Target
    study: str
    models: Mapping[str, Mapping[str, StepKey]]
    baseline: str
    settings: ComparisonSettings
    outputs: Mapping[str, Sequence[tuple[StepKey, tuple[str, ...]]]]
    metrics: tuple[MetricsFile, ...] = ()

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"compare {self.study}"


@task(name="compare", task_run_name="{job.title}", **OPTIONS)
def compare_models(job: ComparisonJob) -> StepRecord | State[StepRecord]:
    """The comparisons, how patterns moved, what changed between choices, and how far predictions lie apart."""

    def compute(store: Store) -> Tables:
        from analysis.choices import choices
        from analysis.clustering.transitions import transitions
        from analysis.comparison import compare, compare_lengths
        from analysis.divergence import diverge

        assignments = {name: StoredParts(store, keys["clustering"], "assignments") for name, keys in job.models.items()}
        lengths = {name: store.read(keys["length"], "by_sample", [RESULT]) for name, keys in job.models.items()}
        with own_metrics(job.metrics):
            compared = compare(StoredModels(store, job.models), job.baseline, job.settings)
        stored = {name: StoredFeatures(store, steps, ("selections",)) for name, steps in job.outputs.items()}
        return {
            "comparisons": compared,
            "by_length": compare_lengths(lengths, job.baseline, job.settings),
            **transitions(assignments, job.baseline, job.settings),
            **choices(stored, job.baseline, job.settings),
            **diverge(stored, job.baseline, job.settings),
        }

    return perform(job.target, compute)


class StoredParts(Iterable[pl.DataFrame]):
    """A result table part by part, read anew whenever it is gone through."""

    def __init__(self, store: Store, key: StepKey, table: str) -> None:
        self._store, self._key, self._table = store, key, table

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self._store.read_parts(self._key, self._table, RESULT)
