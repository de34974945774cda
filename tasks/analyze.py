"""One analysis of one model, from its stored features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import polars as pl
from prefect import task
from prefect.client.schemas.objects import State

from analysis.metrics.stream import Sharded
from analysis.settings import Frozen
from storage.store import StepKey, Store
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

ANALYSES = ("distribution", "clustering", "positional", "efficiency")
#: Analyses whose result is fitted on the features of all models of a study, so that it means the same in each.
POOLED = ("clustering",)
#: Feature tables that no analysis reads: the selected keys of a whole dataset are for looking up, and large.
UNREAD = ("selections",)


@dataclass(frozen=True)
class AnalysisJob:
    """One analysis to run.

    Attributes:
        target: Where the result goes.
        model: What people call the model.
        analysis: One of `ANALYSES`.
        sources: The steps whose tables it reads, each with the units that make it complete.
        settings: The analysis' settings.
        pooled: Features of all models of the study, for the analyses in `POOLED`.
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


@dataclass(frozen=True)
class _Stored(Sharded, Mapping[str, pl.DataFrame]):
    """Features in the store, read shard by shard."""

    store: Store
    key: StepKey
    units: tuple[str, ...]

    def shards(self, tables: Sequence[str]) -> Iterator[Mapping[str, pl.DataFrame]]:
        there = [table for table in tables if table in self]
        for unit in self.units:
            yield {table: self.store.read(self.key, table, [unit]) for table in there}

    def __getitem__(self, table: str) -> pl.DataFrame:
        return self.store.read(self.key, table, self.units)

    def __iter__(self) -> Iterator[str]:
        return iter(self.store.tables(self.key))

    def __len__(self) -> int:
        return len(self.store.tables(self.key))


@task(name="analyze", task_run_name="{job.title}", **OPTIONS)
def analyze_model(job: AnalysisJob) -> StepRecord | State[StepRecord]:
    """Result tables of one analysis."""

    def compute(store: Store) -> Tables:
        features = {
            table: store.read(key, table, units)
            for key, units in job.sources
            for table in store.tables(key)
            if table not in UNREAD
        }
        run = import_module(f"analysis.{job.analysis}").run
        if not job.pooled:
            alone: Tables = run(features, job.settings)
            return alone
        tables: Tables = run(features, job.settings, [_Stored(store, key, units) for key, units in job.pooled])
        return tables

    return perform(job.target, compute)
