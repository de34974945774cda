"""The close look at the samples of a shard, while the extraction runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from indexscope.tasks.common.declared import Job, Made

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from indexscope.analysis.capture.source import Source
    from indexscope.analysis.closeup.looking import Looking
    from indexscope.analysis.features.intake import TokenSequence
    from indexscope.storage.store.store import JSON


class CloseLook:
    """Looks at the samples of a unit of the close-up as they run; call it with a sample for what looks at that one.

    Args:
        job: The unit.
        source: The model that runs them.
    """

    def __init__(self, job: Job, source: Source) -> None:
        from indexscope.analysis.capture.streaming.states import states_of
        from indexscope.analysis.closeup.collect import Look, Vocabulary
        from indexscope.analysis.closeup.looking import Looking
        from indexscope.analysis.closeup.run import makers_of
        from indexscope.storage.inputs.checkpoints import load_tokenizer
        from indexscope.storage.inputs.vocabulary import vocabulary_pieces

        tokenizer = None if job.tokenizer is None else load_tokenizer(Path(job.tokenizer))
        vocabulary = None if tokenizer is None else Vocabulary(*vocabulary_pieces(tokenizer))
        settings = job.given.closeup
        self.makers = makers_of(Look(job.chosen.value, settings, vocabulary))
        states = states_of(source)
        self._begin: Callable[[TokenSequence], Looking] = lambda one: Looking(
            one, self.makers, settings.queries, states
        )
        self._wanted = {sample.index for sample in job.samples.value}
        self._begun: dict[int, Looking] = {}
        self._seconds = 0.0

    def __call__(self, sample: TokenSequence) -> Looking | None:
        """What looks at a sample; None for one that is not of the unit."""
        if sample.index not in self._wanted:
            return None
        again = self._begun.pop(sample.index, None)  # and nothing is kept of the attempt before
        self._seconds += 0.0 if again is None else again.seconds
        self._begun[sample.index] = self._begin(sample)
        return self._begun[sample.index]

    def made(self, tables: dict[str, pl.DataFrame], facts: dict[str, JSON]) -> Made:
        """What it saw; its tables are taken out of those that the run made."""
        from indexscope.analysis.closeup.tables import TABLES

        own = {name: tables.pop(name) for name in TABLES if name in tables}
        return Made(own, facts, seconds=self._seconds + sum(one.seconds for one in self._begun.values()))
