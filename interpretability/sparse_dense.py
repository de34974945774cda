"""Sparse attention beside dense attention of the same layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.prototypes.maps import pooled
from indexscope.analysis.settings import ExtractSettings
from interpretability.inputs import Maps, as_maps, as_selection
from interpretability.layers import by_layer, split
from interpretability.measures import AttentionMeasures, by_part, measure, tables_of
from interpretability.results import Result

_RECALLS = ("selection_recall", "oracle_recall", "random_recall", "recall_of_oracle", "oracle_overlap")
#: Queries and equal parts of the keys of a map that is drawn.
_DRAWN = 96
# Weight on a key that was not selected; what a mask of -1e4 in half precision leaves is below it.
_LEAK = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class SparseDense(Result):
    """What a selection keeps of the dense attention.

    Shares of attention count the queries in effect alone, those with n_t > k_t; None where there is none.

    Attributes:
        selection_recall: Dense attention of the head mean inside S_t.
        oracle_recall: What the best choice of as many keys would hold.
        random_recall: What a random choice of as many keys would hold, k_t / n_t.
        recall_of_oracle: selection_recall / oracle_recall.
        oracle_overlap: Share of the best keys that are in S_t.
        head_recall: Dense attention of each head inside S_t, mean over heads.
        in_effect: Share of queries from which the selection withholds a key.
        selected_share: Selected pairs of query and key over all eligible ones: what attention costs of the dense one.
        dense: Measures of the dense attention.
        sparse: Measures of the sparse attention, over the same eligible keys.
        by_head: head, head_recall, and entropy and sparsity ratio of both.
        metrics: metric, head (null for all), value, unit, ci_low, ci_high, n, of dense attention and selection.
    """

    selection_recall: float | None
    oracle_recall: float | None
    random_recall: float | None
    recall_of_oracle: float | None
    oracle_overlap: float | None
    head_recall: float | None
    in_effect: float | None
    selected_share: float
    dense: AttentionMeasures
    sparse: AttentionMeasures
    by_head: pl.DataFrame
    metrics: pl.DataFrame


def as_pair(
    sparse: object, dense: object, selected: object | None, causal: bool | None
) -> tuple[Maps, Maps, torch.Tensor]:
    """Checked sparse and dense maps and the selection between them, [batch, 1 or heads, S, S].

    Without a selection it is where the sparse weights are not 0.

    Raises:
        ValueError: As `as_maps` and `as_selection`; the two differ in shape, or the sparse weights are not 0 outside
            the selection.
    """
    one, other = as_maps(sparse, causal, "sparse_weights"), as_maps(dense, causal, "dense_weights")
    shapes = [list(maps.weights.shape[0 if maps.batched else 1 :]) for maps in (one, other)]
    if one.weights.shape != other.weights.shape or one.layers != other.layers:
        raise ValueError(
            f"sparse_weights has shape {shapes[0]} and dense_weights {shapes[1]}; give the same maps twice"
        )
    if one.causal and not other.causal:  # a selection of the past from a model that sees both ways
        one = replace(one, causal=False)
    if other.causal and not one.causal:
        as_maps(sparse, True, "sparse_weights")
    one = replace(one, weights=one.weights.to(other.weights.device))
    if selected is None:
        return one, other, (one.weights > 0) & other.eligible
    mask = as_selection(selected, other)
    outside = (one.weights * ~mask.repeat_interleave(one.heads // mask.shape[1], 1)).sum(-1)
    if float(outside.max()) > _LEAK:
        item, head, query = (outside > _LEAK).nonzero()[0].tolist()
        raise ValueError(
            f"sparse_weights put {float(outside[item, head, query]):.2g} of the attention outside selected_tokens, "
            f"first in sample {item} {one.called(head)} query {query}; give the selection that they were made with"
        )
    return one, other, mask


def compare(sparse: Maps, dense: Maps, selected: torch.Tensor, settings: ExtractSettings) -> SparseDense:
    """The numbers of `SparseDense` for checked maps."""
    tables = tables_of(dense, settings, selected)
    metrics = by_part(tables, "head", ("attention", "indexer")).filter(pl.col("metric") != "induction_mass")
    # The indexer's own metrics have no heads, and null stands for all.
    value = {row["metric"]: row["value"] for row in metrics.filter(pl.col("head").is_null()).to_dicts()}
    own, other = measure(sparse, tables_of(sparse, settings)), measure(dense, tables)
    recalls = metrics.filter((pl.col("metric") == "head_recall") & pl.col("head").is_not_null())
    names = ("entropy", "sparsity_ratio")
    by_head = other.by_head.select("head", **{f"dense_{name}": name for name in names})
    by_head = by_head.join(own.by_head.select("head", **{f"sparse_{name}": name for name in names}), on="head")
    by_head = by_head.join(recalls.select("head", head_recall="value"), on="head", how="left").sort("head")
    pairs = int(dense.eligible.sum()) * selected.shape[0] * selected.shape[1]
    result = SparseDense(
        **{name: value.get(name) for name in (*_RECALLS, "head_recall", "in_effect")},
        selected_share=int(selected.sum()) / pairs,
        dense=other,
        sparse=own,
        by_head=by_head.select("head", "head_recall", *sorted(set(by_head.columns) - {"head", "head_recall"})),
        metrics=metrics,
    )
    return by_layer(result, dense)


def examples(
    sparse: Maps, dense: Maps, selected: torch.Tensor, settings: ExtractSettings
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The maps whose selection loses most, least and between, as `sparse_against_dense` draws them."""
    attention = tables_of(dense, settings, selected)["attention"]
    weight = pl.col("queries_in_effect")
    recall = (pl.col("head_recall") * weight).sum() / weight.sum()
    ranked = attention.group_by("sample", "head").agg(lost=1 - recall.fill_nan(1.0))
    ranked = ranked.sort("lost", "sample", "head", descending=[True, False, False])
    places = {0: "most" if ranked.height > 1 else "only"}
    if ranked.height > 2:
        places[ranked.height // 2] = "middle"
    if ranked.height > 1:
        places[ranked.height - 1] = "least"
    found = ranked[list(places)].with_columns(
        pl.Series("example", list(places.values())), layer=pl.lit(None, dtype=pl.Int16)
    )
    named = split(found.drop("layer"), dense) if dense.layers > 1 else found
    length = dense.length
    drawn_queries = min(length, _DRAWN)
    queries = np.arange(1, drawn_queries + 1) * length // drawn_queries - 1
    parts = []
    for row in found.to_dicts():
        drawn = {
            name: pooled(_of(maps, row["sample"], row["head"], queries), length, drawn_queries)
            for name, maps in (("dense", dense), ("sparse", sparse))
        }
        width = pl.Array(pl.Float32, drawn_queries)
        parts.append(
            pl.DataFrame({"example": [row["example"]] * len(queries), "length": length, "query": queries}).with_columns(
                pl.Series(name, values, dtype=width) for name, values in drawn.items()
            )
        )
    return named, pl.concat(parts)


def _of(maps: Maps, sample: int, head: int, queries: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(maps.weights[sample, head].float().cpu().numpy()[queries])
