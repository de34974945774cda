"""The close look at some samples of a model: one unit, since it is a fixed number of samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prefect import task
from prefect.client.schemas.objects import State

from analysis.settings import ExtractSettings, ProbeSettings
from storage.samples import Sample
from storage.store import JSON, Store
from tasks.extract import Parcel, tell
from tasks.models import Checkpoint, borrow, share_cores
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

PROBE = "probe"


@dataclass(frozen=True)
class ProbeJob:
    """The probe of one model.

    Attributes:
        target: Where the result goes.
        checkpoint: The model.
        samples: The samples to look at.
        settings: How the model is run.
        probe: How closely.
        tokenizer: Folder of the tokenizer that made the samples; None where they came as ids.
    """

    target: Target
    checkpoint: Checkpoint
    samples: Parcel[tuple[Sample, ...]]
    settings: ExtractSettings
    probe: ProbeSettings
    tokenizer: str | None = None

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"{self.checkpoint.name} {self.target.unit}"


@task(name="probe", task_run_name="probe {job.title}", **OPTIONS)
def probe_model(job: ProbeJob) -> StepRecord | State[StepRecord]:
    """Tables of sampled queries of one model."""
    facts: dict[str, JSON] = {}

    def compute(_: Store) -> Tables:
        from analysis.capture.journal import Journal
        from analysis.probe import Vocabulary, probe_samples
        from storage.checkpoints import load_tokenizer
        from storage.vocabulary import vocabulary_pieces

        share_cores(1)
        journal = Journal(tell)
        model = borrow(job.checkpoint, job.settings)
        vocabulary = (
            None if job.tokenizer is None else Vocabulary(*vocabulary_pieces(load_tokenizer(Path(job.tokenizer))))
        )
        tables = probe_samples(model, job.samples.value, job.probe, job.settings, journal, vocabulary)
        facts.update(notes=list(journal.notes), chunks=sorted(journal.chunks))
        return tables

    return perform(job.target, compute, facts)
