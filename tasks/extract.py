"""Model work: the feature tables of a shard, and what is measured once per model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from prefect import task
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from analysis.settings import ExtractSettings
from indexscope import IndexscopeError
from indexscope.errors import is_out_of_memory
from storage.samples import Sample
from storage.store import JSON, Store
from tasks.models import Checkpoint, borrow, share_cores
from tasks.parent import end_with_parent
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

if TYPE_CHECKING:
    import polars as pl
    from transformers import PreTrainedModel

    from analysis.capture.journal import Journal

T = TypeVar("T")
#: Tokens; an audit that does not fit even at half of them is a failure.
SHORTEST_AUDITED = 64


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
    facts: dict[str, JSON] = {}

    def compute(_: Store) -> Tables:
        from analysis.capture.journal import Journal
        from analysis.features import extract_samples

        share_cores(job.workers)
        journal = Journal(tell)
        model = borrow(job.checkpoint, job.settings)
        tables = extract_samples(model, job.samples.value, job.settings, journal, job.workers)
        facts.update(notes=list(journal.notes), chunks=sorted(journal.chunks))
        return tables

    return perform(job.target, compute, facts)


@task(name="measure", task_run_name="measure {job.title}", **OPTIONS)
def measure_model(job: ModelJob) -> StepRecord | State[StepRecord]:
    """Facts, layers, latency profile and causality audit of one model."""
    facts: dict[str, JSON] = {}

    def compute(_: Store) -> Tables:
        from analysis.capture import CapturedModel
        from analysis.capture.facts import model_facts
        from analysis.capture.journal import Journal
        from analysis.capture.layers import layer_facts
        from analysis.capture.profile import profile_model
        from analysis.features.attempt import Attempt

        share_cores(job.workers)
        journal = Journal(tell)
        model = borrow(job.checkpoint, job.settings)
        source = CapturedModel(model)
        for note in source.notes:
            journal.note(note)
        longest = max(len(sample.input_ids) for sample in job.samples.value)
        chunk = Attempt(source, job.settings, journal).chunk(job.settings.batch, longest)
        tables = {
            "facts": model_facts(model).with_columns(chunk=chunk),
            "layers": layer_facts(source),
            "audit": _audit(model, [sample.input_ids for sample in job.samples.value], journal),
            "profile": profile_model(model, job.settings, journal),
        }
        facts.update(notes=list(journal.notes))
        return tables

    return perform(job.target, compute, facts)


def _audit(model: PreTrainedModel, sequences: Sequence[Sequence[int]], journal: Journal) -> pl.DataFrame:
    """The causality audit, on beginnings of the sequences where the model's own forward needs too much memory."""
    from analysis.capture.audit import audit_causality
    from analysis.capture.memory import let_go

    longest = max(map(len, sequences))
    while True:
        try:
            return audit_causality(model, [sequence[:longest] for sequence in sequences])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if longest < SHORTEST_AUDITED:
                remedy = "use another device, a smaller dtype or fewer workers"
                raise IndexscopeError("causality audit", "does not fit into memory", remedy) from error
        let_go(model.device)
        longest //= 2
        journal.note(f"out of memory in the causality audit; it goes on with the first {longest} tokens of each sample")


def tell(note: str) -> None:
    """Put a note into Prefect's log at once; the narration gets it with the record, across process borders too."""
    with suppress(MissingContextError):
        get_run_logger().warning(note)


def start_worker(quiet: bool) -> None:
    """Set up a worker process: it ends with its parent, and its logs go to Prefect rather than the terminal."""
    end_with_parent()
    if quiet:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).propagate = False
