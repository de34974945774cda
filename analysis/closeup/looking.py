"""One sample being looked at while it runs: in a forward of its own, or in one that something else asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import polars as pl
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.observers import Resumable, capture_sparse
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.streaming.states import InMemory, States, states_of
from indexscope.analysis.closeup.collect import CloseupSample, Maker, Predicting, Tables
from indexscope.analysis.closeup.resting import Resting
from indexscope.analysis.closeup.rows import closeup_queries, closeup_rows
from indexscope.analysis.features.attempt import Attempt
from indexscope.analysis.features.intake import TokenSequence


class Looking:
    """Gives all collectors what the layers show at the sampled queries of one sample.

    Args:
        sample: The sample; it runs as a batch of one, with the scores of single indexer heads.
        makers: Make one collector each.
        queries: Queries of the sample that are looked at, at most.
        states: Where what layers show lies until all layers of a chunk were seen; None for memory.

    Attributes:
        seconds: What looking has taken, beside the forward.
    """

    def __init__(
        self, sample: TokenSequence, makers: Sequence[Maker], queries: int, states: States | None = None
    ) -> None:
        ids = torch.tensor(list(sample.input_ids), dtype=torch.int64)
        self._places, self._weights = closeup_queries(len(ids), queries, sample.index)
        looked_at = CloseupSample(sample.index, sample.name, ids, self._places, self._weights)
        self._collectors = [make(looked_at) for make in makers]
        # By start: a model that takes its sequence at once shows all chunks of a layer before the next layer's.
        self._chunks: dict[int, dict[int, Resting]] = {}
        self._states = states or InMemory()
        self.seconds = 0.0

    def observe(self, chunk: AttentionChunk) -> None:
        """Take the sampled queries of one layer of one chunk."""
        began = time.perf_counter()
        rows = closeup_rows(chunk, self._places, self._weights)
        if rows is not None:
            self._chunks.setdefault(chunk.start, {})[chunk.layer] = Resting.of(rows, self._states)
        self.seconds += time.perf_counter() - began

    def predicted(self, start: int, logits: torch.Tensor) -> None:
        """Take the logits of one chunk, [1, queries, vocabulary], whose layers have all been observed."""
        began = time.perf_counter()
        for collector in self._collectors if logits.shape[-1] else ():
            if isinstance(collector, Predicting):
                collector.predicted(start, logits)
        for place in sorted(self._chunks):
            layers = self._chunks.pop(place)
            rows = [layers[layer].taken() for layer in sorted(layers)]
            for collector in self._collectors:
                collector.add(rows)
        self.seconds += time.perf_counter() - began

    def state(self) -> tuple[dict[int, dict[int, Resting]], float]:
        """What it saw of the layers that are done; collectors get it once all are."""
        return self._chunks, self.seconds

    def restore(self, state: tuple[dict[int, dict[int, Resting]], float]) -> None:
        """Take up what another one saw of the same sample."""
        self._chunks, self.seconds = state

    def tables(self) -> Tables:
        """The tables of all collectors."""
        began = time.perf_counter()
        found: Tables = {}
        for collector in self._collectors:
            found |= collector.tables()
        self.seconds += time.perf_counter() - began
        return found


def collect_samples(
    source: Source, samples: Sequence[TokenSequence], makers: Sequence[Maker], queries: int, attempt: Attempt
) -> Tables:
    """Run every sample once and give all collectors what the layers show.

    Args:
        source: The model.
        samples: The samples, at least one.
        makers: Make one collector a sample each.
        queries: Queries of a sample that are looked at, at most.
        attempt: Chooses and halves the chunk.
    """

    def look(batch: list[TokenSequence], chunk_size: int) -> Tables:
        looking = Looking(batch[0], makers, queries, states_of(source))

        def observe(chunk: AttentionChunk) -> torch.Tensor:
            looking.observe(chunk)
            return capture_sparse(chunk)

        ids = torch.tensor([list(batch[0].input_ids)], dtype=torch.int64, device=source.device)
        looked_at = Resumable(observe, looking.state, looking.restore)
        for start, logits in source.run(ids, looked_at, chunk_size, head_scores=True):
            looking.predicted(start, logits)
        return looking.tables()

    parts = attempt.gathered(([sample] for sample in samples), look)
    return {name: pl.concat(frames) for name, frames in parts.items()}
