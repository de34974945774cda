"""What a family's reader is told about one call of an attention, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from indexscope import IndexscopeError
from indexscope.analysis.capture.chunk import Entries
from indexscope.analysis.capture.indexer import Seen


@dataclass(frozen=True)
class Site:
    """One call of one layer's attention.

    Attributes:
        module: The attention module.
        path: Its name in the model.
        start: Index of the first query in the sequence.
        queries: Queries in this chunk.
        keys: Keys on the key axis.
        visible: What the mask that the attention was given leaves visible, [batch or 1, 1, queries, keys].
        mask_keys: Keys that the mask had when transformers made it, before the layer changed it; None if it made none.
        untouched: The mask is as transformers made it, so that no selection is folded into it.
        padding: True for the tokens so far that are not padding, [batch, tokens]; None without padding.
        select: Whether the run asked for the selection.
        indices: Selected keys that the layer passed on, [batch, queries, k].
        block_indices: Selected blocks that it passed on, [batch, groups, queries, k], -1 for none.
    """

    module: nn.Module
    path: str
    start: int
    queries: int
    keys: int
    visible: torch.Tensor
    mask_keys: int | None
    untouched: bool
    padding: torch.Tensor | None
    select: bool
    indices: torch.Tensor | None
    block_indices: torch.Tensor | None

    def refuse(self, reason: str) -> IndexscopeError:
        """The error for an attention that does not follow the shape its reader expects."""
        where = f"{type(self.module).__name__} ({self.path})"
        return IndexscopeError(where, reason, "capture it through indexscope.analysis.capture.protocol")

    def query_positions(self) -> torch.Tensor:
        """Index of each query's token in the sequence, [queries]."""
        return torch.arange(self.start, self.start + self.queries, device=self.visible.device)

    def key_positions(self) -> torch.Tensor:
        """Index of each key's token, the last key being the last query's own, [keys]."""
        end = self.start + self.queries
        return torch.arange(end - self.keys, end, device=self.visible.device)

    def causal(self) -> torch.Tensor:
        """E_t from causality, the layer's window and padding alone, [batch or 1, 1, queries, keys]."""
        query, key = self.query_positions()[:, None], self.key_positions()
        mask = key <= query
        window = getattr(self.module, "sliding_window", None)
        if window is not None:
            mask &= key > query - window
        mask = mask[None, None]
        return mask if self.padding is None else mask & self.padding[:, None, None, -self.keys :]

    def first_tokens(self, batch: int) -> torch.Tensor:
        """Index of the first token that is not padding, [batch]."""
        if self.padding is None:
            return torch.zeros(batch, dtype=torch.int64, device=self.visible.device)
        return self.padding.long().argmax(-1)


@dataclass(frozen=True)
class Reading:
    """What a reader answers: the fields of an AttentionChunk that depend on the family."""

    eligible: torch.Tensor
    selected: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    entries: Entries | None = None
    chosen: torch.Tensor | None = None
    always: torch.Tensor | None = None
    head_scores: torch.Tensor | None = None
    head_weights: torch.Tensor | None = None


def heads_of(seen: Seen, scores: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Head scores [batch, queries, heads, entries] and weights [batch, queries, heads], where they were kept."""
    if not seen.heads or seen.heads[-1].ndim != 4:
        return None, None
    heads = seen.heads[-1]
    if (*heads.shape[:2], heads.shape[3]) != tuple(scores.shape):
        return None, None
    # A matmul takes them as [batch, queries, 1, heads], a product as [batch, queries, heads, 1].
    weights = seen.weights[-1] if seen.weights else None
    if weights is not None and weights.numel() == heads.shape[:3].numel():
        return heads, weights.reshape(heads.shape[:3])
    return heads, None
