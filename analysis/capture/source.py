"""What the features ask of a model, whether it comes from transformers or from a researcher's own torch code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch

from indexscope.analysis.capture.chunk import Observer

T = TypeVar("T")


class Source(Protocol):
    """A causal language model whose layers can be watched."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def index_topk(self) -> int | None:
        """Keys that a query's indexer selects at most (k), forced ones not counted; None without an indexer."""
        ...

    @property
    def has_indexer(self) -> bool:
        """Whether any layer selects."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        ...

    @property
    def max_length(self) -> int | None:
        """Longest sequence that its positions allow; None where nothing limits it."""
        ...

    @property
    def family(self) -> str:
        """Name of the architecture."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out and why: "layer 3 (linear attention) has no attention map and is skipped"."""
        ...

    def run(
        self,
        input_ids: torch.Tensor,
        observer: Observer,
        chunk: int,
        select: bool = True,
        attention_mask: torch.Tensor | None = None,
        head_scores: bool = False,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Feed sequences of equal length in chunks of queries.

        Args:
            input_ids: [batch, sequence], int64, on the model's device.
            observer: Called for every layer of every chunk; returns the attention output.
            chunk: Queries a chunk at most; memory grows with chunk x sequence.
            select: False runs the same weights without selection, every layer attending to all of E_t.
            attention_mask: [batch, sequence], 1 for tokens and 0 for padding on either side; None without padding.
            head_scores: Also keep the scores of the single indexer heads and their weights.

        Yields:
            (index of the first query, logits [batch, queries, vocabulary]) of each chunk.
        """
        ...


@runtime_checkable
class ServesTogether(Protocol):
    """A source whose runs cost less if many wait for it at once."""

    def side_by_side(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """Do pieces of work that run it; their results, in order."""
        ...


def served_together(source: Source, works: Sequence[Callable[[], T]]) -> list[T]:
    """Do pieces of work that run a model: one after another, or so that its runs are served together.

    Raises:
        Exception: What the first work that failed raised.
    """
    return source.side_by_side(works) if isinstance(source, ServesTogether) else [work() for work in works]
