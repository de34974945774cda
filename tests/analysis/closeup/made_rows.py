"""Rows of one layer made up by hand: what a close-up would see of a model that attends and scores like this."""

from __future__ import annotations

import torch

from indexscope.analysis.closeup.collect import CloseupSample
from indexscope.analysis.closeup.rows import CloseupRows


def made(
    p: torch.Tensor,
    scores: torch.Tensor | None = None,
    selected: torch.Tensor | None = None,
    query: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    head_scores: torch.Tensor | None = None,
    head_weights: torch.Tensor | None = None,
    layer: int = 0,
) -> CloseupRows:
    """Queries see keys up to themselves; by default the last keys are the queries."""
    queries, keys = p.shape
    query = torch.arange(keys - queries, keys) if query is None else query
    eligible = torch.arange(keys) <= query[:, None]
    p = torch.where(eligible, p, 0.0).float()
    return CloseupRows(
        layer=layer, query=query, weight=torch.ones(queries, dtype=torch.float64) if weight is None else weight,
        n=eligible.sum(-1), p=p, head_p=p[None], eligible=eligible,
        selected=None if selected is None else selected & eligible,
        scores=None if scores is None else scores.float().masked_fill(~eligible, -torch.inf),
        head_scores=head_scores, head_weights=head_weights, selects=selected is not None,
        scored=scores is not None,
    )  # fmt: skip


def sample(length: int, index: int = 0) -> CloseupSample:
    every, ones = torch.arange(length), torch.ones(length, dtype=torch.float64)
    return CloseupSample(index, f"d{index}", torch.zeros(length, dtype=torch.int64), every, ones)


def topk(scores: torch.Tensor, query: torch.Tensor, k: int) -> torch.Tensor:
    """A valid selection: the k best of each query's keys, all of them where there are no more."""
    eligible = torch.arange(scores.shape[1]) <= query[:, None]
    best = scores.float().masked_fill(~eligible, -torch.inf).topk(min(k, scores.shape[1]), -1).indices
    return torch.zeros_like(eligible).scatter(-1, best, True) & eligible
