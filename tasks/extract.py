"""Model work: the feature tables of a shard, and what is measured once per model."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ExtractSettings
from storage.samples import Sample
from storage.store import Store
from tasks.models import Checkpoint, borrow, share_cores
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

T = TypeVar("T")


class Parcel(Generic[T]):
    """Carries a value past Prefect, which would walk through every token of every sample in search of futures."""

    def __init__(self, value: T) -> None:
        self.value = value


@dataclass(frozen=True)
class ModelJob:
    """One unit of model work: small but for the samples, picklable, and without a model in it.

    Attributes:
        target: Where the result goes.
        checkpoint: The model.
        samples: The unit's samples.
        settings: How the model is run.
        workers: How many such jobs share the cores.
    """

    target: Target
    checkpoint: Checkpoint
    samples: Parcel[Sequence[Sample]]
    settings: ExtractSettings
    workers: int

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"{self.checkpoint.name} {self.target.unit}"


@task(name="extract", task_run_name="extract {job.title}", **OPTIONS)
def extract_shard(job: ModelJob) -> StepRecord | State[StepRecord]:
    """Feature tables of one shard."""

    def compute(_: Store) -> Tables:
        from analysis.features import extract_samples

        share_cores(job.workers)
        return extract_samples(borrow(job.checkpoint, job.settings), job.samples.value, job.settings)

    return perform(job.target, compute)


@task(name="measure", task_run_name="measure {job.title}", **OPTIONS)
def measure_model(job: ModelJob) -> StepRecord | State[StepRecord]:
    """Facts, latency profile and causality audit of one model."""

    def compute(_: Store) -> Tables:
        from analysis.capture.audit import audit_causality
        from analysis.capture.facts import model_facts
        from analysis.capture.profile import profile_model

        share_cores(job.workers)
        model = borrow(job.checkpoint, job.settings)
        return {
            "facts": model_facts(model).with_columns(chunk=job.settings.chunk),
            "audit": audit_causality(model, [sample.input_ids for sample in job.samples.value]),
            "profile": profile_model(model, job.settings),
        }

    return perform(job.target, compute)


def start_worker(quiet: bool) -> None:
    """Set up a worker process: Ctrl-C is the parent's to handle, and logs go to Prefect rather than the terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if quiet:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).propagate = False
