"""FLOPs of attention and indexer by formula; a multiply-add is 2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analysis.statistics import Array


@dataclass(frozen=True)
class Shape:
    """What the cost formulas need of a model.

    Attributes:
        layers: Attention layers.
        sparse_layers: Those whose attention reads a selection.
        attention_pair: FLOPs of one query-key pair in one layer, 2 H (d_qk + d_v).
        indexer_pair: FLOPs of one query-key pair in all indexers together, indexer layers x (2 H_I d_I + 2 H_I).
        indexer_token: FLOPs of the indexers' projections per token, 2 x indexer parameters.
        top_k: Keys that a query may select; None without an indexer.
        by_token: Whether the indexer scores single tokens. The formulas know no pools, blocks or compressed entries, so
            that without it nothing is counted.
    """

    layers: int
    sparse_layers: int
    attention_pair: float
    indexer_pair: float
    indexer_token: float
    top_k: int | None
    by_token: bool = True


@dataclass(frozen=True)
class Flops:
    """FLOPs of one prefill of each length, all layers together, each [lengths]; NaN where no formula holds."""

    indexer: Array
    attention: Array
    dense_attention: Array


def shape(facts: pl.DataFrame, attention: pl.DataFrame | None) -> Shape:
    """Read the shape off a model's facts.

    Sparse layers are those in which a selection left something out (some families share an earlier layer's
    selection, so that there may be more of them than indexers); where none did, as many as there are indexers.
    """
    row: dict[str, Any] = facts.row(0, named=True)
    heads, dim = row["indexer_heads"] or 0, row["indexer_dim"] or 0
    sparse = 0
    if attention is not None and not attention.is_empty() and row["index_topk"]:
        sparse = attention.filter(pl.col("queries_in_effect") > 0)["layer"].n_unique()
    return Shape(
        layers=row["layers"],
        sparse_layers=sparse or row["indexer_layers"],
        attention_pair=2.0 * row["attention_heads"] * (row["key_width"] + row["value_width"]),
        indexer_pair=2.0 * row["indexer_layers"] * heads * (dim + 1),
        indexer_token=2.0 * row["indexer_parameters"],
        top_k=row["index_topk"],
        by_token=row["entry"] in (None, "token"),
    )


def flops(model: Shape, lengths: ArrayLike) -> Flops:
    """FLOPs of one prefill at each length L: L (L + 1) / 2 eligible pairs, of which sparse layers attend the selected.

    Args:
        model: The model's shape.
        lengths: Tokens, [lengths].
    """
    length = np.asarray(lengths, dtype=np.float64)
    if not model.by_token:
        return Flops(*(np.full_like(length, np.nan) for _ in range(3)))
    pairs = length * (length + 1) / 2
    attended = pairs
    if model.top_k is not None:
        k = np.minimum(length, model.top_k)
        attended = k * (k + 1) / 2 + (length - k) * k
    sparse = model.sparse_layers if model.top_k is not None else 0
    return Flops(
        indexer=model.indexer_token * length + model.indexer_pair * pairs,
        attention=model.attention_pair * (sparse * attended + (model.layers - sparse) * pairs),
        dense_attention=model.attention_pair * model.layers * pairs,
    )
