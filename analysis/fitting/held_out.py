"""What a model with a fitted indexer selects on held-out text, attending to its own selection."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, CapturedModel, capture_sparse
from indexscope.analysis.features.rows import AttentionRows
from indexscope.analysis.fitting.measure import Sums


def held_out_sums(model: PreTrainedModel, tokens: torch.Tensor, topk: int, chunk: int) -> Sums:
    """Recall and divergence over all queries of a sequence, as a study of the same model would have them.

    Args:
        model: With a fitted indexer laid over it.
        tokens: [length].
        topk: Keys that it selects.
        chunk: Queries that run at once.
    """
    captured, sums = CapturedModel(model), Sums()

    def observe(found: AttentionChunk) -> torch.Tensor:
        if found.scores is not None:
            mean = AttentionRows(found).mean
            sums.add(found.layer, mean, found.scores, found.eligible[:, 0], (topk,))
        return capture_sparse(found)

    for _ in captured.run(tokens[None].to(captured.device), observe, chunk):
        pass
    return sums
