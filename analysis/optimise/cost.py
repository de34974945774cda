"""What an edit costs relative to the model as it is, by formula, as served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from indexscope.analysis.conventions import SERVED, TIME
from indexscope.analysis.edits.edit import Edit, Precision
from indexscope.analysis.flops import AttentionLayer, attended_pairs
from indexscope.analysis.statistics.resampling import Array


@dataclass(frozen=True)
class CostLayer:
    """What the formulas need of one layer.

    Attributes:
        attention: Its attention.
        heads: Indexer heads; 0 where it has no indexer of its own.
        dim: Width of one.
        topk: Keys a query selects; None where it attends to all.
        token: FLOPs of its indexer's projections a token that all heads share.
        token_head: The same of each head.
    """

    attention: AttentionLayer
    heads: int = 0
    dim: int = 0
    topk: int | None = None
    token: float = 0.0
    token_head: float = 0.0


@dataclass(frozen=True)
class Cost:
    """FLOPs of the model over the study's samples, as served (`indexscope.analysis.conventions.SERVED`).

    Attributes:
        layers: All attention layers of the model, by index.
        lengths: Tokens of each sample.
        time: What an operation of the indexer counts as it is served.
        whole: Whether attention counts; else the indexers alone.
    """

    layers: tuple[CostLayer, ...]
    lengths: tuple[int, ...]
    time: float = 1.0
    whole: bool = True

    @cached_property
    def base(self) -> float:
        """Of the model as it is."""
        return self.flops(Edit.model_validate({}))

    @cached_property
    def dense(self) -> float:
        """Of dense attention over all layers, without indexers."""
        convention = SERVED
        layers = (layer.attention for layer in self.layers)
        return sum(layer.pair_as(convention.dense_latent) * self._pairs(layer.window, layer.chunk) for layer in layers)

    def relative(self, edit: Edit) -> float:
        """Share of the model's FLOPs that are left."""
        return self.flops(edit) / self.base

    def relative_to_dense(self, edit: Edit) -> float:
        """Indexers and attention as a multiple of dense attention."""
        return replace(self, whole=True).flops(edit) / self.dense

    def flops(self, edit: Edit) -> float:
        """FLOPs of an edit."""
        sources = edit.sources(layer for layer, own in enumerate(self.layers) if own.topk is not None)
        topk, total = None, 0.0
        for layer, own in enumerate(self.layers):
            # A layer without an indexer of its own takes the selection of the last that has one.
            if own.heads and sources[layer] == layer:
                topk = edit.topk_of(layer) or own.topk
                total += self.indexer(layer, len(edit.indexer_heads.get(layer, range(own.heads))), edit.precision)
            total += self.attention(layer, None if own.topk is None else topk or own.topk)
        return total

    def indexer(self, layer: int, heads: int, precision: Precision | None = None) -> float:
        """FLOPs of a layer's indexer with so many heads."""
        own = self.layers[layer]
        pairs = 2.0 * heads * (own.dim + 1) * self._pairs(None, None)
        tokens = (own.token + heads * own.token_head) * float(sum(self.lengths))
        return (pairs + tokens) * (self.time if precision is None else TIME.get(precision, 1.0))

    def attention(self, layer: int, topk: int | None) -> float:
        """FLOPs of a layer's attention to so many selected keys, None for all; 0 where attention does not count."""
        if not self.whole:
            return 0.0
        own = self.layers[layer].attention
        limit = own.window if topk is None else topk if own.window is None else min(own.window, topk)
        pair = own.pair_as(SERVED.sparse_latent if topk is not None else SERVED.dense_latent)
        return pair * self._pairs(limit, own.chunk)

    def _pairs(self, limit: int | None, chunk: int | None) -> float:
        return _attended(self.lengths, limit, chunk)

    @property
    def cheaper_precisions(self) -> tuple[Precision, ...]:
        """Precisions in which an operation of the indexer counts less than as it is served."""
        known: Sequence[Precision] = ("bfloat16", "float16", "fp8", "fp4", "int8")
        return tuple(name for name in known if name in TIME and TIME[name] < self.time)


@lru_cache(maxsize=4096)
def _attended(lengths: tuple[int, ...], limit: int | None, chunk: int | None) -> float:
    pairs: Array = np.asarray(attended_pairs(lengths, limit, chunk))
    return float(pairs.sum())
