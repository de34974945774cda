"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ComparisonSettings
from storage.store import StepKey, Store
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
        settings: Resamples, confidence and seed.
    """

    target: Target
    study: str
    models: Mapping[str, Mapping[str, StepKey]]
    baseline: str
    settings: ComparisonSettings

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"compare {self.study}"


@task(name="compare", task_run_name="{job.title}", **OPTIONS)
def compare_models(job: ComparisonJob) -> StepRecord | State[StepRecord]:
    """The comparison table, and how patterns moved between clusters and types."""

    def compute(store: Store) -> Tables:
        from analysis.clustering.transitions import transitions
        from analysis.comparison import combine, compare

        models = {name: combine(read_analyses(store, keys)) for name, keys in job.models.items()}
        assignments = {
            name: store.read(keys["clustering"], "assignments", [RESULT]) for name, keys in job.models.items()
        }
        return {
            "comparisons": compare(models, job.baseline, job.settings),
            **transitions(assignments, job.baseline, job.settings),
        }

    return perform(job.target, compute)


def read_analyses(store: Store, keys: Mapping[str, StepKey]) -> dict[str, Tables]:
    """The result tables of a model's analyses, by analysis."""
    return {
        name: {table: store.read(key, table, [RESULT]) for table in store.tables(key)} for name, key in keys.items()
    }
