"""Ids of a short sequence that shows what a model is made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Protocol, runtime_checkable

import torch

from indexscope.analysis.capture.chunk import Observer
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.capture.protocol import TracedModel
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.watching.calls import WithinTables
from indexscope.analysis.capture.watching.module import WatchedModule, random_ids

#: Tokens; a selection or window of fewer keys shows in them. An odd number, which no width happens to be.
SHORT = 129
LONGEST = 1025
_LENGTHS = (SHORT, 33, 7, 2)


@runtime_checkable
class Glancing(Protocol):
    """A source for which a run is dear: what two tokens show is kept for all who look at them."""

    def glance(
        self, input_ids: torch.Tensor, observer: Observer, chunk: int, head_scores: bool = False
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """As `Source.run`, for an observer that attends as the model does."""
        ...


def looked(source: Source, input_ids: torch.Tensor, observer: Observer, chunk: int, head_scores: bool = False) -> None:
    """Show a short run to an observer that attends as the model does, to see what the model is made of.

    Args:
        source: The model.
        input_ids: [1, S].
        observer: Called for every layer of every chunk.
        chunk: Queries a chunk.
        head_scores: Also show the scores of the single indexer heads.
    """
    run = source.glance if isinstance(source, Glancing) else source.run
    for _ in run(input_ids, observer, chunk, head_scores=head_scores):
        pass


def look_ids(source: Source, wanted: int = SHORT) -> torch.Tensor:
    """Ids [1, S] on the model's device: of transformers two tokens, of other code as many as show its selection.

    Args:
        source: The model.
        wanted: S, if its positions reach as far, and more where it selects more keys; fewer where it fails on so many.

    Raises:
        IndexscopeError: It fails on any number of tokens.
    """
    if isinstance(source, CapturedModel):
        return torch.zeros((1, 2), dtype=torch.int64, device=source.device)
    wanted = max(wanted, min(LONGEST, (source.index_topk or 0) + 1 | 1))
    longest = min(wanted, source.max_length or wanted)
    if not isinstance(source, TracedModel):
        return random_ids(source.vocabulary, 1, longest).to(source.device)
    if longest in source.taken:
        return random_ids(source.ids, 1, source.taken[longest]).to(source.device)
    failed: Exception | None = None
    for length in (longest, *(length for length in _LENGTHS if length < longest)):
        ids = random_ids(source.ids, 1, length).to(source.device)
        # Positions beyond a table are found out before a GPU reads them; what is watched looks itself.
        guard = nullcontext() if isinstance(source.model, WatchedModule) else WithinTables()
        try:
            with torch.inference_mode(), guard:
                source.trace(ids)
        except Exception as error:  # whatever a stranger's forward raises on so many tokens
            failed = failed or error
        else:
            source.taken[longest] = length
            return ids
    assert failed is not None
    raise failed
