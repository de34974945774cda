"""Models that cannot be fed in chunks: run the sequence at once and show its attention in chunks all the same.

Layers with a recurrent state (state-space, linear attention, convolution) would have to take up the state that the
chunk before left. Many of transformers' do so for single tokens only and start every longer chunk afresh, without a
word. Those in CONTINUES are tested to go on exactly; any other such model sees the whole sequence in one forward. What
the observer computes stays bounded by chunk x sequence, but the mask of its attention layers is sequence x sequence.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache, PreTrainedModel

from indexscope.analysis.capture.chunk import AttentionChunk, Observer
from indexscope.analysis.capture.indexer import indexers

CONTINUES = frozenset(
    {
        "qwen3_next",
        "qwen3_5_text",
        "kimi_linear",
        "bailing_hybrid",
        "olmo_hybrid",
        "lfm2",
        "granitemoehybrid",
        "falcon_h1",
        "nemotron_h",
        "zamba2",
    }
)


def continues(model: PreTrainedModel) -> bool:
    """Whether a forward goes on exactly from the chunk before: all but unproven models with a recurrent state."""
    if model.config.model_type in CONTINUES or indexers(model):
        return True
    return not any(hasattr(layer, "update_recurrent_state") for layer in DynamicCache(config=model.config).layers)


def in_chunks(observer: Observer, size: int) -> Observer:
    """An observer of whole sequences that shows them to another one in chunks of at most ``size`` queries."""

    def observe(whole: AttentionChunk) -> torch.Tensor:
        queries = whole.query.shape[2]
        parts = [whole.part(first, min(first + size, queries)) for first in range(0, queries, size)]
        return torch.cat([observer(part) for part in parts], 2)

    return observe
