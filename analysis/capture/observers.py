"""Observers that only attend: what the model would have computed, dense or sparse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from indexscope.analysis.capture.chunk import AttentionChunk, Observer


def capture_dense(chunk: AttentionChunk) -> torch.Tensor:
    """Observer that attends to all of E_t: the dense reference."""
    return attend(chunk, chunk.eligible)


def capture_sparse(chunk: AttentionChunk) -> torch.Tensor:
    """Observer that attends as the model does and looks at nothing: the floor of what a capture can cost."""
    return attend(chunk, chunk.eligible if chunk.selected is None else chunk.selected)


def attend(chunk: AttentionChunk, mask: torch.Tensor) -> torch.Tensor:
    """Attention output under a mask, [batch, heads, queries, value width]; zeros for a query without any key.

    Args:
        chunk: Queries, keys and values.
        mask: True where a key is attended, [batch or 1, 1 or groups, queries, keys].
    """
    heads = chunk.value.shape[1] if chunk.probabilities is not None else chunk.query.shape[1]
    if 1 < mask.shape[1] < heads:
        mask = mask.repeat_interleave(heads // mask.shape[1], 1)
    if (
        chunk.softcap is not None
        or chunk.sinks is not None
        or chunk.bias is not None
        or chunk.probabilities is not None
    ):
        logits = chunk.logits().masked_fill_(~mask, -torch.inf)
        highest = logits.amax(-1, keepdim=True)
        # A query without any key has no highest logit; its weights are all zero and so is its output.
        highest = highest.masked_fill_(highest.isneginf(), 0.0)
        weights = logits.sub_(highest).exp_()
        total = weights.sum(-1, keepdim=True) + sink_weight(chunk, highest)
        return chunk.weigh(weights) / total.clamp_min_(torch.finfo(total.dtype).tiny)
    groups = chunk.query.shape[1] // chunk.key.shape[1]
    key, value = chunk.key.repeat_interleave(groups, 1), chunk.value.repeat_interleave(groups, 1)
    # torch's fused CPU kernel wants values as wide as keys (MLA's are not); zero columns change nothing.
    spare = max(0, key.shape[-1] - value.shape[-1])
    wide = functional.pad(value, (0, spare))
    output = functional.scaled_dot_product_attention(chunk.query, key, wide, attn_mask=mask, scale=chunk.scaling)
    return output[..., : value.shape[-1]]


def sink_weight(chunk: AttentionChunk, highest: torch.Tensor) -> torch.Tensor | float:
    """What learned sinks add to the softmax denominator, relative to exp(highest); finite.

    Args:
        chunk: Whose sinks.
        highest: [batch, heads, queries, 1].
    """
    return 0.0 if chunk.sinks is None else torch.exp((chunk.sinks.float().view(1, -1, 1, 1) - highest).clamp(max=80.0))


@dataclass(frozen=True)
class Resumable:
    """An observer that can be put away between two layers and taken up by another process.

    Attributes:
        observe: The observer.
        state: What it has gathered of the layers that are done: plain objects, arrays and tensors.
        restore: Takes that up, in an observer of the same sequences that has seen nothing yet.
    """

    observe: Observer
    state: Callable[[], object]
    restore: Callable[[Any], None]

    def __call__(self, chunk: AttentionChunk) -> torch.Tensor:
        """Look at a chunk."""
        return self.observe(chunk)


def resumable(observer: Observer) -> Resumable | None:
    """An observer as one that can be put away; None where it cannot, as it has not said how."""
    if isinstance(observer, Resumable):
        return observer
    if observer in (capture_dense, capture_sparse):  # which gather nothing
        return Resumable(observer, lambda: None, lambda state: None)
    return None
