"""One analysis of one model, from its stored features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State

from indexscope.metrics import MetricsFile
from indexscope.settings import Frozen
from storage.store import StepKey, Store
from tasks.features import StoredFeatures
from tasks.own_metrics import own_metrics
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
        metrics: Files of the study's own metrics, for their analysis.
    """

    target: Target
    model: str
    analysis: str
    sources: Sequence[tuple[StepKey, tuple[str, ...]]]
    settings: Frozen
    pooled: Sequence[tuple[StepKey, tuple[str, ...]]] = ()
    metrics: tuple[MetricsFile, ...] = ()

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
        with own_metrics(job.metrics) as declared:
            more: list[Any] = [declared] if declared else []
            if job.pooled:
                more = [[StoredFeatures(store, [pooled]) for pooled in job.pooled]]
            tables: Tables = run(features, job.settings, *more)
        return tables

    return perform(job.target, compute)
