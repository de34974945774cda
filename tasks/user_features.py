"""A study's own features of one shard of a model."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import task
from prefect.client.schemas.objects import State

from indexscope.metrics import MetricsFile
from storage.custom_tables import feature_tables
from storage.store import JSON, Store
from tasks.extract import ModelJob, tell
from tasks.models import borrow, share_cores
from tasks.own_metrics import declared_in
from tasks.step import OPTIONS, StepRecord, Tables, perform


@dataclass(frozen=True)
class UserFeaturesJob(ModelJob):
    """One shard of a model, and the files that declare the features."""

    metrics: tuple[MetricsFile, ...] = ()


@task(name="user features", task_run_name="user features {job.title}", **OPTIONS)
def extract_user_shard(job: UserFeaturesJob) -> StepRecord | State[StepRecord]:
    """Tables of a study's own features of one shard."""
    facts: dict[str, JSON] = {}
    declared = [one for one in declared_in(job.metrics) if one.is_feature]

    def compute(_: Store) -> Tables:
        from analysis.capture.journal import Journal
        from analysis.custom.extract import extract_user_features

        share_cores(job.workers)
        journal = Journal(tell)
        model = borrow(job.checkpoint, job.settings)
        tables = extract_user_features(model, job.samples.value, job.settings, declared, journal, job.workers)
        facts.update(notes=list(journal.notes), chunks=sorted(journal.chunks))
        return tables

    return perform(job.target, compute, facts, feature_tables(declared))
