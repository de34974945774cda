"""The widths of a model that decide its memory, read off the tensors of a short run."""

from __future__ import annotations

import torch

from indexscope.analysis.capture.chunk import AttentionChunk
from indexscope.analysis.capture.look import look_ids, looked
from indexscope.analysis.capture.memory import Widths
from indexscope.analysis.capture.observers import capture_sparse
from indexscope.analysis.capture.source import Source


def widths_of(source: Source) -> Widths:
    """Run a few tokens and look.

    Where the indexer does not show its heads, its configuration's number is taken, else that of the attention.
    """
    layers: dict[int, tuple[int, int, int]] = {}
    indexer_heads, blocked = 0, True

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        nonlocal indexer_heads, blocked
        blocked &= _for_kernels(chunk)
        if chunk.head_scores is not None:
            indexer_heads = max(indexer_heads, chunk.head_scores.shape[2])
        maps = chunk.query if chunk.probabilities is None else chunk.probabilities
        width = (0 if chunk.probabilities is not None else chunk.key.shape[-1]) + chunk.value.shape[-1]
        layers[chunk.layer] = (maps.shape[1], width, width * chunk.value.shape[1] * chunk.value.element_size())
        return capture_sparse(chunk)

    ids = look_ids(source)
    looked(source, ids, observe, ids.shape[1], head_scores=True)
    heads = max((layer[0] for layer in layers.values()), default=1)
    if source.has_indexer and not indexer_heads:
        config = getattr(getattr(source, "model", None), "config", None)
        indexer_heads = getattr(config, "index_n_heads", None) or heads
    return Widths(
        heads=heads,
        indexer_heads=indexer_heads,
        key_value_width=max((layer[1] for layer in layers.values()), default=0),
        cached_bytes=sum(layer[2] for layer in layers.values()),
        vocabulary=source.vocabulary,
        blocked=blocked,
    )


def _for_kernels(chunk: AttentionChunk) -> bool:
    """Whether the compiled kernels take such a layer, and the dense reference runs without holding its maps."""
    grouped = chunk.selected is not None and chunk.selected.shape[1] > 1
    special = (chunk.softcap, chunk.sinks, chunk.bias, chunk.positions, chunk.entries, chunk.probabilities)
    return chunk.query.device.type == "cpu" and not grouped and all(part is None for part in special)
