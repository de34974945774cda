"""The sampled queries of one layer, small enough to be kept until all layers of a chunk have been seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.queries import sampled_queries
from indexscope.analysis.features.rows import AttentionRows


class Selecting:
    """Queries that select: what their numbers say of each."""

    n: torch.Tensor
    selected: torch.Tensor | None

    @property
    def k(self) -> torch.Tensor:
        """k_t of each query, int64; n_t where the layer is dense."""
        return self.n if self.selected is None else self.selected.sum(-1)

    @property
    def in_effect(self) -> torch.Tensor:
        """Whether something was left out, bool."""
        return self.n > self.k


@dataclass(frozen=True)
class CloseupRows(Selecting):
    """One layer at the sampled queries of one chunk of one sample: Q queries, K keys, J indexer heads.

    Keys are tokens 0 .. K - 1, and K is the last query's position + 1. All tensors are float32 or bool.

    Attributes:
        layer: Index of the layer.
        query: Positions of the queries, [Q], int64, ascending.
        weight: Queries that each stands for, itself included, [Q], float64. Weighted by it, sampled queries estimate a
            mean over all queries.
        n: n_t, [Q], int64.
        p: Dense attention of the head mean over E_t, [Q, K]; 0 outside.
        head_p: The same of each attention head, [H, Q, K].
        eligible: E_t, [Q, K].
        selected: S_t, [Q, K]; None where the layer is dense, or where groups of heads select for themselves.
        scores: Index scores I, [Q, K], -inf outside the keys that were up for selection; None without an indexer of
            the layer's own, and where entries are not keys.
        head_scores: ReLU(q[t, j] · k[s]) of each indexer head as the model scales it, [Q, J, K]; None like ``scores``.
        head_weights: w[t, j], [Q, J]; None where the family has none, so that heads count alike.
        selects: Whether it attends to a selection, one of each group's own included.
        scored: Whether it has index scores, of entries that are no keys included.
    """

    layer: int
    query: torch.Tensor
    weight: torch.Tensor
    n: torch.Tensor
    p: torch.Tensor
    head_p: torch.Tensor
    eligible: torch.Tensor
    selected: torch.Tensor | None
    scores: torch.Tensor | None
    head_scores: torch.Tensor | None
    head_weights: torch.Tensor | None
    selects: bool
    scored: bool


def closeup_queries(length: int, count: int, sample: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`indexscope.analysis.features.queries.sampled_queries` as tensors, int64 and float64."""
    queries, weights = sampled_queries(length, count, sample)
    return torch.from_numpy(queries), torch.from_numpy(weights.astype(np.float64))


def closeup_rows(chunk: AttentionChunk, queries: torch.Tensor, weights: torch.Tensor) -> CloseupRows | None:
    """The sampled queries of a chunk of a batch of one; None if there are none, or keys are no tokens.

    Args:
        chunk: What a layer's attention saw.
        queries: Positions of the sampled queries of the sequence, ascending.
        weights: How many queries each stands for.
    """
    last = chunk.start + chunk.query.shape[2]
    here = (queries >= chunk.start) & (queries < last)
    keys = chunk.eligible.shape[-1]
    if not bool(here.any()) or chunk.positions is not None or keys != last:
        return None
    place = (queries[here] - chunk.start).to(chunk.query.device)
    few = _at(chunk, place)
    rows = AttentionRows(few)
    own = few.entries is None and few.scores is not None and few.scores.dim() == 3
    selected = few.selected if few.selected is not None and few.selected.shape[1] == 1 else None
    eligible = rows.eligible[0]
    scores = few.scores[0].float() if own and few.scores is not None else None
    return CloseupRows(
        layer=chunk.layer,
        query=queries[here],
        weight=weights[here],
        n=eligible.sum(-1),
        p=rows.mean[0],
        head_p=rows.p[0],
        eligible=eligible,
        selected=None if selected is None else selected[0, 0] & eligible,
        scores=None if scores is None else scores.masked_fill(~eligible, -torch.inf),
        head_scores=few.head_scores[0].float() if own and few.head_scores is not None else None,
        head_weights=few.head_weights[0].float() if own and few.head_weights is not None else None,
        selects=few.selected is not None,
        scored=few.scores is not None,
    )


def _at(chunk: AttentionChunk, place: torch.Tensor) -> AttentionChunk:
    """Some queries of a chunk whose last key is its last query's own."""

    def rows(values: torch.Tensor | None, dimension: int) -> torch.Tensor | None:
        return None if values is None else values.index_select(dimension, place)

    bias = chunk.bias
    return replace(
        chunk,
        query=chunk.query.index_select(2, place),
        eligible=chunk.eligible.index_select(2, place),
        selected=rows(chunk.selected, 2),
        scores=rows(chunk.scores, -2),
        chosen=rows(chunk.chosen, -2),
        always=rows(chunk.always, 2),
        bias=rows(bias, 2) if bias is not None and bias.shape[-2] > 1 else bias,
        head_scores=rows(chunk.head_scores, 1),
        head_weights=rows(chunk.head_weights, 1),
        probabilities=rows(chunk.probabilities, 2),
    )
