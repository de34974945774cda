"""Attention whose numbers are known, and attention that a tiny model really has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from indexscope.analysis.capture import AttentionChunk, capture_dense, capture_sparse
from indexscope.analysis.capture.model import CapturedModel
from indexscope.analysis.features.rows import AttentionRows

Array = NDArray[np.float64]


def causal(weights: Array) -> Array:
    """Rows of positive weights over the keys up to the query, scaled to sum to 1."""
    kept = np.tril(weights)
    return kept / kept.sum(axis=-1, keepdims=True)


def uniform(length: int) -> Array:
    return causal(np.ones((length, length)))


def previous(length: int) -> Array:
    """All on the token before; the first query has only itself."""
    return causal(np.eye(length, k=-1) + np.eye(length) * (np.arange(length) == 0))


def sink(length: int) -> Array:
    found = np.zeros((length, length))
    found[:, 0] = 1.0
    return found


def own(length: int) -> Array:
    return np.eye(length)


KINDS: dict[str, Callable[[int], Array]] = {
    "uniform": uniform,
    "previous-token": previous,
    "sink": sink,
    "self": own,
}


def random_maps(heads: int, length: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Softmax of noise over earlier keys, [batch, heads, S, S]."""
    logits = torch.randn(batch, heads, length, length, generator=torch.Generator().manual_seed(seed)) * 2
    return logits.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf).softmax(-1)


def attention_of(model: PreTrainedModel, ids: torch.Tensor) -> dict[int, tuple[torch.Tensor, torch.Tensor | None]]:
    """Dense attention [batch, heads, S, S] and selection [batch, 1, S, S] of every layer, in one forward."""
    found: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}

    def observe(chunk: AttentionChunk) -> torch.Tensor:
        found[chunk.layer] = AttentionRows(chunk).p.clone(), chunk.selected
        return capture_dense(chunk) if chunk.selected is None else capture_sparse(chunk)

    for _ in CapturedModel(model).run(ids, observe, ids.shape[1]):
        pass
    return found
