"""One analysis of one model, from its stored features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import Frozen
from storage.store import StepKey, Store
from tasks.features import StoredFeatures
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform


@dataclass(frozen=True)
class AnalysisJob:
    """One analysis to run.

    Attributes:
        target: Where the result goes.
        model: What people call the model.
        analysis: One of `tasks.catalogue.ANALYSES`.
        sources: The steps whose tables it reads, each with the units that make it complete.
        settings: The analysis' settings.
        pooled: Features of all models of the study, for the analyses in `tasks.catalogue.POOLED`.
    """

    target: Target
    model: str
    analysis: str
    sources: Sequence[tuple[StepKey, tuple[str, ...]]]
    settings: Frozen
    pooled: Sequence[tuple[StepKey, tuple[str, ...]]] = ()

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"{self.analysis} {self.model}"


@task(name="analyze", task_run_name="{job.title}", **OPTIONS)
def analyze_model(job: AnalysisJob) -> StepRecord | State[StepRecord]:
    """Result tables of one analysis."""

    def compute(store: Store) -> Tables:
        run = import_module(f"analysis.{job.analysis}").run
        features = StoredFeatures(store, job.sources)
        if not job.pooled:
            alone: Tables = run(features, job.settings)
            return alone
        tables: Tables = run(features, job.settings, [StoredFeatures(store, [pooled]) for pooled in job.pooled])
        return tables

    return perform(job.target, compute)
