"""Running batches within the memory there is: the chunk is chosen, and halved where it was too large."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import TypeVar

import polars as pl

from indexscope import IndexscopeError
from indexscope.analysis.capture.dispatched import devices_of
from indexscope.analysis.capture.journal import Journal
from indexscope.analysis.capture.memory import Widths, choose_chunk, halved, let_go
from indexscope.analysis.capture.source import Source, served_together
from indexscope.analysis.capture.widths import widths_of
from indexscope.analysis.features.intake import TokenSequence, called
from indexscope.analysis.free_memory import available_bytes
from indexscope.analysis.settings import ExtractSettings
from indexscope.errors import is_out_of_memory

T = TypeVar("T")
Tables = dict[str, pl.DataFrame]


class Attempt:
    """Runs one batch after another; a chunk that was too large once is not tried again.

    Args:
        source: The model.
        settings: Whose chunk is a number or "auto".
        journal: Is told of every halving, and which chunks were used.
        workers: How many share the memory.
    """

    def __init__(self, source: Source, settings: ExtractSettings, journal: Journal, workers: int = 1) -> None:
        self.source, self.settings, self.journal = source, settings, journal
        self.workers = max(1, workers)
        self.most: int | None = None

    def run(self, work: Callable[[int], T], batch: int, length: int, where: str) -> T:
        """Do work(chunk) for a batch of sequences of this length, with ever smaller chunks while memory runs out.

        Raises:
            IndexscopeError: Memory runs out even at the smallest chunk.
        """
        chunk = self.chunk(batch, length)
        while True:
            try:
                result = work(chunk)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            else:
                self.journal.chunks.add(chunk)
                return result
            # Here and not in the handler, where the traceback would keep the failed attempt's tensors alive.
            let_go(self.source.device)
            smaller = halved(chunk, length)
            if smaller is None:
                reason = f"does not fit into memory: {batch} x {length} tokens, {min(chunk, length)} queries at a time"
                remedy = "use shorter sequences (dataset.max_length), extract.batch 1, fewer workers or a smaller dtype"
                raise IndexscopeError(where, reason, remedy)
            self.journal.note(f"out of memory at {length} tokens with chunk {chunk}; going on with chunk {smaller}")
            chunk = self.most = smaller

    def gathered(
        self, batches: Iterable[list[TokenSequence]], work: Callable[[list[TokenSequence], int], Tables]
    ) -> dict[str, list[pl.DataFrame]]:
        """The tables that work(batch, chunk) makes of one batch of equal lengths after another, by name; see `run`."""
        parts: dict[str, list[pl.DataFrame]] = {}
        for tables in served_together(self.source, [partial(self._one, batch, work) for batch in batches]):
            for name, table in tables.items():
                parts.setdefault(name, []).append(table)
        return parts

    def _one(self, batch: list[TokenSequence], work: Callable[[list[TokenSequence], int], Tables]) -> Tables:
        return self.run(partial(work, batch), len(batch), len(batch[0].input_ids), called(batch))

    def chunk(self, batch: int, length: int) -> int:
        """The chunk to begin with."""
        chunk = self.settings.chunk
        if chunk == "auto":
            chunk = choose_chunk(self._available, self._widths, batch, length)
        return chunk if self.most is None else min(chunk, self.most)

    @cached_property
    def _widths(self) -> Widths:
        return widths_of(self.source)

    @cached_property
    def _available(self) -> int:
        return min(map(available_bytes, devices_of(self.source))) // self.workers
