"""FLOPs that attention and indexer need, by formula; a multiply-add is 2."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from indexscope.analysis.conventions import CONVENTIONS, SERVED, TIME, Convention
from indexscope.analysis.statistics.resampling import Array


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer.

    Attributes:
        pair: FLOPs of one query-key pair as MHA, 2 H (d_qk + d_v); NaN where they are not known.
        window: Eligible keys are the last so many; None where they are all up to the query.
        sparse: Whether it attends to a selection.
        chunk: Eligible keys are those of the query's own chunk of so many; None where attention is not chunked.
        latent: FLOPs of one pair as latent MQA, 2 H (r + d_rope + r) for latents of r channels; None without latents.
        top_k: Keys that its selection may hold; None for the model's.
    """

    pair: float
    window: int | None = None
    sparse: bool = False
    chunk: int | None = None
    latent: float | None = None
    top_k: int | None = None

    def pair_as(self, latent: bool) -> float:
        """FLOPs of one pair, on the latents where that is asked for and there are any."""
        return self.latent if latent and self.latent is not None else self.pair


@dataclass(frozen=True)
class Staged:
    """An indexer that scores whole blocks first, and keys in those that it keeps.

    Attributes:
        pair: FLOPs of one query and one key or block, 2 H_I d_I + 2 H_I.
        block: Keys a block.
        keys: Keys of the blocks that are kept.
    """

    pair: float
    block: int
    keys: int


@dataclass(frozen=True)
class Shape:
    """What the cost formulas need of a model.

    Attributes:
        attention: The attention layers.
        indexer_pair: FLOPs of one query-key pair in all indexers together, the sum over them of 2 H_I d_I + 2 H_I.
        indexer_token: FLOPs of the indexers' projections per token, 2 x indexer parameters.
        top_k: Keys that a query may select; None without an indexer.
        by_token: Whether the indexer, if there is one, is known to score single tokens. The formulas know no pools,
            blocks or compressed entries, nor code that nobody has read, so that without it nothing is counted.
        indexer_time: What an operation of the indexer counts where its precision does, relative to one in bf16.
        staged: Indexers that score blocks before keys, which are not in ``indexer_pair``.
    """

    attention: tuple[AttentionLayer, ...]
    indexer_pair: float
    indexer_token: float
    top_k: int | None
    by_token: bool = True
    indexer_time: float = 1.0
    staged: tuple[Staged, ...] = ()

    @property
    def has_formula(self) -> bool:
        """Whether its cost can be told by formula: single tokens are scored, and all widths are known."""
        return self.by_token and not any(math.isnan(layer.pair) for layer in self.attention)

    def top_k_of(self, layer: AttentionLayer) -> int | None:
        """Keys that a query of a layer attends to at most; None for all that are eligible."""
        return (layer.top_k or self.top_k) if layer.sparse else None

    @property
    def sparse_layers(self) -> int:
        """Layers that attend to a selection."""
        return sum(layer.sparse for layer in self.attention)

    @property
    def conventions(self) -> tuple[Convention, ...]:
        """Those that tell its costs: without latents nothing runs on them."""
        latent = any(layer.latent is not None for layer in self.attention)
        return CONVENTIONS if latent else tuple(one for one in CONVENTIONS if one.precision or not one.sparse_latent)

    def indexer_weight(self, convention: Convention) -> float:
        """What an operation of the indexer counts in a convention."""
        return self.indexer_time if convention.precision else 1.0


@dataclass(frozen=True)
class Flops:
    """FLOPs of one prefill of each length, all layers together, each [lengths]; NaN where no formula holds.

    Those of the indexer are multiplied by what they count in the convention.
    """

    indexer: Array
    attention: Array
    dense_attention: Array


#: What the table ``layers`` says of a layer's own indexer.
_INDEXER = ("indexer_heads", "indexer_dim", "scored_block", "scored_keys")


def shape(facts: pl.DataFrame, layers: pl.DataFrame | None = None, sparse: int = 0) -> Shape:
    """Read the shape off a model's facts.

    Args:
        facts: The ``facts`` table.
        layers: The ``layers`` table, which says of every layer what it attends to.
        sparse: Layers that attend to a selection, where ``layers`` does not say which; 0 means as many as there are
            indexers.
    """
    row: dict[str, Any] = facts.row(0, named=True)
    own: list[tuple[int | None, ...]] = []
    if layers is not None and not layers.is_empty():
        found = tuple(
            AttentionLayer(
                _pair(one),
                one["window"],
                one["selects"],
                one["attention_chunk"],
                _latent_pair(one),
                one.get("index_topk"),
            )
            for one in layers.iter_rows(named=True)
        )
        own = [tuple(map(one.get, _INDEXER)) for one in layers.iter_rows(named=True)]
    else:
        selecting, latent = sparse or row["indexer_layers"] or 0, _latent_pair(row)
        found = tuple(
            AttentionLayer(_pair(row), None, layer < selecting, latent=latent) for layer in range(row["layers"])
        )
    if not any(heads for heads, *_ in own):
        own = [(row["indexer_heads"], row["indexer_dim"], None, None)] * (row["indexer_layers"] or 0)
    pairs = [(2.0 * (heads or 0) * ((dim or 0) + 1), block, keys) for heads, dim, block, keys in own]
    return Shape(
        attention=found,
        indexer_pair=sum(pair for pair, block, keys in pairs if not (block and keys)),
        indexer_token=2.0 * (row["indexer_parameters"] or 0),
        top_k=row["index_topk"],
        by_token=row["index_topk"] is None or row["entry"] == "token",
        indexer_time=TIME.get(row["indexer_precision"], 1.0),
        staged=tuple(Staged(pair, block, keys) for pair, block, keys in pairs if block and keys),
    )


def _pair(row: Mapping[str, Any]) -> float:
    """FLOPs of a query-key pair in all heads; NaN where a width is not known."""
    widths = row["key_width"], row["value_width"]
    return math.nan if None in widths else 2.0 * row["attention_heads"] * sum(widths)


def _latent_pair(row: Mapping[str, Any]) -> float | None:
    """FLOPs of a query-key pair in all heads on the latents; None where there are none."""
    widths = row["latent_key_width"], row["latent_value_width"]
    return None if None in widths else 2.0 * row["attention_heads"] * sum(widths)


def attended_pairs(lengths: ArrayLike, limit: int | None, chunk: int | None = None) -> Array:
    """Query-key pairs where query t attends to min(t + 1, limit) keys: a window, or a selection.

    With chunks of c keys, t counts from the start of the query's own chunk.

    >>> float(attended_pairs(4, 2)), float(attended_pairs(4, None)), float(attended_pairs(5, None, 3))
    (7.0, 10.0, 9.0)
    """
    length = np.asarray(lengths, dtype=np.float64)
    if chunk is not None:
        whole = length // chunk
        return np.asarray(whole * attended_pairs(chunk, limit) + attended_pairs(length - whole * chunk, limit))
    if limit is None:
        return np.asarray(length * (length + 1) / 2)
    k = np.minimum(length, limit)
    return np.asarray(k * (k + 1) / 2 + (length - k) * k)


def block_pairs(lengths: ArrayLike, block: int) -> Array:
    """Pairs of a query and a block of keys up to it, the one it lies in among them.

    >>> float(block_pairs(5, 2))
    9.0
    """
    length = np.asarray(lengths, dtype=np.float64)
    whole = length // block
    return np.asarray(block * whole * (whole + 1) / 2 + (length - whole * block) * (whole + 1))


def flops(model: Shape, lengths: ArrayLike, convention: Convention = SERVED) -> Flops:
    """FLOPs of one prefill at each length L.

    Layers without a window have L (L + 1) / 2 eligible pairs, those with one the sum over t of min(t + 1, window), and
    those with chunks of c keys the sum over t of t mod c + 1; of these, sparse layers attend the selected, sum over t
    of min(n_t, k). An indexer scores every earlier key; one that scores blocks first, these and the keys in those kept.

    Args:
        model: The model's shape.
        lengths: Tokens, [lengths].
        convention: What counts as an operation.
    """
    length = np.asarray(lengths, dtype=np.float64)
    if not model.has_formula:
        return Flops(*(np.full_like(length, np.nan) for _ in range(3)))
    dense, own = np.zeros_like(length), np.zeros_like(length)
    for layer in model.attention:
        limit, top_k = layer.window, model.top_k_of(layer)
        if top_k is not None:
            limit = top_k if limit is None else min(limit, top_k)
        pair = layer.pair_as(convention.dense_latent)
        sparse = layer.pair_as(convention.sparse_latent) if layer.sparse else pair
        dense = dense + pair * attended_pairs(length, layer.window, layer.chunk)
        own = own + sparse * attended_pairs(length, limit, layer.chunk)
    indexer = model.indexer_token * length + model.indexer_pair * attended_pairs(length, None)
    for one in model.staged:
        indexer = indexer + one.pair * (block_pairs(length, one.block) + attended_pairs(length, one.keys))
    indexer = model.indexer_weight(convention) * indexer
    return Flops(indexer=indexer, attention=own, dense_attention=dense)
