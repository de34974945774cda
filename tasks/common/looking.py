"""The close look at the samples of a shard, while the extraction runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.tasks.common.declared import Job, Made

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from indexscope.analysis.closeup.looking import Looking
    from indexscope.analysis.features.intake import TokenSequence
    from indexscope.storage.store.store import JSON


class CloseLook:
    """Looks at the samples of a unit of the close-up as they run; call it with a sample for what looks at that one.

    Args:
        job: The unit.
    """

    def __init__(self, job: Job) -> None:
        from indexscope.analysis.closeup.collect import Look, Vocabulary
        from indexscope.analysis.closeup.looking import Looking
        from indexscope.analysis.closeup.run import makers_of
        from indexscope.storage.inputs.checkpoints import load_tokenizer
        from indexscope.storage.inputs.vocabulary import vocabulary_pieces

        tokenizer = None if job.tokenizer is None else load_tokenizer(Path(job.tokenizer))
        vocabulary = None if tokenizer is None else Vocabulary(*vocabulary_pieces(tokenizer))
        settings = job.given.closeup
        self.makers = makers_of(Look(job.chosen.value, settings, vocabulary))
        self._begin: Callable[[TokenSequence], Looking] = lambda one: Looking(one, self.makers, settings.queries)
        self._wanted = {sample.index for sample in job.samples.value}
        self._begun: list[Looking] = []

    def __call__(self, sample: TokenSequence) -> Looking | None:
        """What looks at a sample; None for one that is not of the unit."""
        if sample.index not in self._wanted:
            return None
        self._begun.append(self._begin(sample))
        return self._begun[-1]

    def made(self, tables: dict[str, pl.DataFrame], facts: dict[str, JSON]) -> Made:
        """What it saw; its tables are taken out of those that the run made."""
        from indexscope.analysis.closeup.tables import TABLES

        own = {name: tables.pop(name) for name in TABLES if name in tables}
        return Made(own, facts, seconds=sum(looking.seconds for looking in self._begun))
