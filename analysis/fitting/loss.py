"""What an indexer is fitted to: the head mean of attention, over all keys or over those that it selects."""

from __future__ import annotations

from dataclasses import replace

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.features.rows import AttentionRows


def rows_of(chunk: AttentionChunk, rows: torch.Tensor) -> AttentionChunk:
    """Some queries of a chunk, by index within it, with all keys: E_t, S_t, scores and logits, and nothing else."""
    bias = chunk.bias
    if bias is not None and bias.shape[-2] > 1:
        bias = bias[..., rows, :]
    return replace(
        chunk,
        query=chunk.query[:, :, rows],
        eligible=chunk.eligible[..., rows, :],
        selected=None if chunk.selected is None else chunk.selected[..., rows, :],
        scores=None if chunk.scores is None else chunk.scores[..., rows, :],
        bias=bias,
        chosen=None,
        always=None,
        head_scores=None,
        head_weights=None,
        hits=None,
        probabilities=None if chunk.probabilities is None else chunk.probabilities[:, :, rows],
    )


def head_mean(chunk: AttentionChunk) -> torch.Tensor:
    """Dense attention averaged over heads, [batch, queries, keys], float32; 0 outside E_t."""
    return AttentionRows(chunk).mean


def divergence(target: torch.Tensor, scores: torch.Tensor, within: torch.Tensor) -> torch.Tensor:
    """KL(target || softmax of the scores) over a set of keys, of each query, in nats.

    The target is renormalised within the set, so that over E_t this is eq. 3 and over S_t eq. 4 of the report on
    DeepSeek-V3.2 (dense warm-up, and sparse training). A query whose set is empty, or holds nothing of the target, has
    a divergence of 0.

    Args:
        target: Non-negative, [batch, queries, keys].
        scores: The same shape, with a gradient.
        within: The set, [batch or 1, queries, keys], bool.

    Returns:
        [batch, queries].

    Source: DeepSeek-V3.2 technical report, section 2.1.
    """
    kept = target * within
    total = kept.sum(-1, keepdim=True)
    p = kept / total.clamp_min(torch.finfo(total.dtype).tiny)
    # Finite, so that an empty set has no NaN in its gradient.
    log_q = torch.log_softmax(scores.masked_fill(~within, -1e30), dim=-1).masked_fill(~within, 0.0)
    found: torch.Tensor = torch.special.xlogy(p, p).sum(-1) - (p * log_q).sum(-1)
    return found
