"""What the steps that run a model share: the model, its notes, and a worker's share of the cores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from indexscope.storage.store.store import JSON
from indexscope.tasks.common import log
from indexscope.tasks.common.declared import Given, Job
from indexscope.tasks.common.models import borrow, share_cores
from indexscope.tasks.common.passes import KeptPass

if TYPE_CHECKING:
    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.capture.source import Source

#: Sequences that the causality audit may choose from.
LOOKED_AT = 8


def run_on(given: Given, settings: Mapping[str, JSON]) -> dict[str, JSON]:
    """What the bytes of every step that runs a model depend on: model, data, kind of device, and its own settings."""
    return {
        "checkpoint": given.checkpoint,
        "dataset": given.dataset,
        "settings": settings,
        "device": given.device,
    }


@contextmanager
def running(job: Job) -> Iterator[tuple[Source, Journal, Callable[[], dict[str, JSON]]]]:
    """The job's model with its share of the cores; what a pass over it has come to is kept as long as it runs.

    Yields:
        The model, a journal that tells Prefect at once, and what the commit marker keeps of that journal.
    """
    from indexscope.analysis.capture.journal import Journal
    from indexscope.analysis.capture.streaming.commits import committing

    assert job.checkpoint is not None
    share_cores(job.workers)
    journal = Journal(tell)

    def facts() -> dict[str, JSON]:
        return {"notes": list(journal.notes), **chunks_of(journal)}

    model = borrow(job.checkpoint, job.given.extract)
    with job.checkpoint.origin.told(), committing(KeptPass(job, tell)):
        yield model, journal, facts


def chunks_of(journal: Journal) -> dict[str, JSON]:
    """The chunk sizes that were used, as commit markers keep them."""
    return {"chunks": sorted(journal.chunks)} if journal.chunks else {}


def tell(note: str) -> None:
    """Put a note into Prefect's log at once; the narration gets it with the record, across process borders too."""
    log.tell(note, logging.WARNING)
