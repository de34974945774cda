"""The candidates against the baseline, from the stored analyses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ComparisonSettings
from indexscope.metrics import MetricsFile
from storage.store import StepKey, Store
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
        settings: Resamples, confidence and seed.
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
    """The comparison table, and how patterns moved between clusters and types."""

    def compute(store: Store) -> Tables:
        from analysis.clustering.transitions import transitions
        from analysis.comparison import compare

        assignments = {
            name: store.read(keys["clustering"], "assignments", [RESULT]) for name, keys in job.models.items()
        }
        with own_metrics(job.metrics):
            compared = compare(StoredModels(store, job.models), job.baseline, job.settings)
        return {"comparisons": compared, **transitions(assignments, job.baseline, job.settings)}

    return perform(job.target, compute)
