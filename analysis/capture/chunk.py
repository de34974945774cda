"""What one layer's attention sees for one chunk of queries, whatever the family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

EntryKind = Literal["token", "pool", "block", "compressed"]


@dataclass(frozen=True)
class Entries:
    """Which tokens an indexer's entries hold, where an entry is not simply a key of the attention.

    Attributes:
        kind: pool and block hold tokens that stay keys of their own; compressed ones are keys themselves.
        first: Position of the first token that each entry holds, [batch or 1, entries], int64.
        last: Position of the last one, same shape.
    """

    kind: EntryKind
    first: torch.Tensor
    last: torch.Tensor


@dataclass(frozen=True)
class AttentionChunk:
    """What one layer's attention sees for one chunk of queries.

    Attributes:
        layer: Index of the layer.
        start: Index of the first query in the sequence, counted from 0.
        query: [batch, heads, queries, key width].
        key: [batch, key heads, keys, key width].
        value: [batch, key heads, keys, value width].
        eligible: E_t, [batch or 1, 1, queries, keys], bool. Queries that are padding have none.
        selected: S_t within E_t, [batch or 1, 1 or groups, queries, keys], or None where the layer attends to all of
            E_t. With groups, the heads of group g (consecutive, equally many) share one selection.
        scores: Index scores I, [batch, queries, entries], or [batch, groups, queries, entries] where each group
            selects for itself; -inf outside the entries that were up for selection. None without an indexer of
            its own.
        scaling: Factor on query x key.
        softcap: Soft cap on the logits, if the model has one.
        sinks: Learned sink logits [heads], if the model has them.
        bias: What the model adds to the logits (ALiBi and the like), broadcastable to them.
        positions: Position of the token that each key is, [keys], int64; -1 for compressed entries. None where the
            last key is the last query's own and the others precede it one by one.
        entries: What the scored entries are; None where entry s is key s.
        chosen: The selection over entries, shaped like ``scores``, bool; None where it is ``selected``.
        always: Keys visible whatever the indexer says (window, tail, local blocks), like ``eligible``; None if none.
        head_scores: Score of each indexer head after ReLU, [batch, queries, indexer heads, entries], if asked for.
        head_weights: w[t, j], [batch, queries, indexer heads], if asked for and the family has them.
        probabilities: Dense attention p, given instead of query and key, [batch, heads, queries, keys].
        hits: Share of S_t in the selection before it, and in caches of the last 2 k_t and 4 k_t keys, averaged over
            groups, [batch or 1, 3, queries]; NaN where it is not known. None where nobody followed the selections.
        ahead: Whether the model attends to keys after their query that are left out here, in this chunk or another.
    """

    layer: int
    start: int
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    eligible: torch.Tensor
    selected: torch.Tensor | None
    scores: torch.Tensor | None
    scaling: float
    softcap: float | None = None
    sinks: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    entries: Entries | None = None
    chosen: torch.Tensor | None = None
    always: torch.Tensor | None = None
    head_scores: torch.Tensor | None = None
    head_weights: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None
    hits: torch.Tensor | None = None
    ahead: bool = False

    def logits(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Attention logits of queries first .. last - 1, [batch, heads, queries, keys], before masking, in float32."""
        if self.probabilities is not None:
            return self.probabilities[:, :, first:last].float().log()
        query = self.query[:, :, first:last]
        batch, heads, queries, width = query.shape
        groups = self.key.shape[1]
        query = query.float().reshape(batch, groups, heads // groups * queries, width)
        logits = torch.matmul(query * self.scaling, self.key.float().transpose(2, 3)).view(batch, heads, queries, -1)
        if self.softcap is not None:
            logits = logits.div_(self.softcap).tanh_().mul_(self.softcap)
        if self.bias is not None:
            logits += self.bias[..., first:last, :] if self.bias.shape[-2] > 1 else self.bias
        return logits

    def weigh(self, weights: torch.Tensor) -> torch.Tensor:
        """Values averaged by weights [batch, heads, queries, keys]: [batch, heads, queries, value width], float32."""
        batch, heads, queries, keys = weights.shape
        groups = self.value.shape[1]
        grouped = weights.view(batch, groups, heads // groups * queries, keys)
        return torch.matmul(grouped, self.value.float()).view(batch, heads, queries, -1)

    def part(self, first: int, last: int) -> AttentionChunk:
        """Queries first .. last - 1 of the chunk, counted within it; keys after the last of them are left out."""
        queries, keys = slice(first, last), slice(None)
        if self.positions is None:
            keys = slice(self.eligible.shape[-1] - (self.eligible.shape[-2] - last))
        entries = keys if self.entries is None else slice(None)
        bias = self.bias
        if bias is not None:
            bias = bias[
                ..., queries if bias.shape[-2] > 1 else slice(None), keys if bias.shape[-1] > 1 else slice(None)
            ]
        return replace(
            self,
            start=self.start + first,
            query=self.query[:, :, queries],
            key=self.key[:, :, keys],
            value=self.value[:, :, keys],
            eligible=self.eligible[..., queries, keys],
            selected=None if self.selected is None else self.selected[..., queries, keys],
            scores=None if self.scores is None else self.scores[..., queries, entries],
            bias=bias,
            positions=self.positions,
            chosen=None if self.chosen is None else self.chosen[..., queries, entries],
            always=None if self.always is None else self.always[..., queries, keys],
            head_scores=None if self.head_scores is None else self.head_scores[:, queries, :, entries],
            head_weights=None if self.head_weights is None else self.head_weights[:, queries],
            hits=None if self.hits is None else self.hits[..., queries],
            probabilities=None if self.probabilities is None else self.probabilities[:, :, queries, keys],
        )


Observer = Callable[[AttentionChunk], torch.Tensor]
"""Receives a chunk and returns the attention output [batch, heads, queries, value width]."""
