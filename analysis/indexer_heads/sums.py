"""The metrics of indexer heads by sample and layer, as numerators and denominators."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from scipy.special import xlogy

from indexscope.analysis.indexer_heads.spread import Spread
from indexscope.analysis.metrics.sums import Sums, layered
from indexscope.analysis.statistics.resampling import Array, ratio


def head_sums(heads: pl.DataFrame) -> Sums:
    """head_agreement, leave_one_out_loss, negative_head_weights and head_effective.

    Args:
        heads: The table ``indexer_heads``.
    """
    loss = heads.with_columns(recall_loss=pl.col("recall_with") - pl.col("recall_without"))
    columns = {
        "head_agreement": ("own_overlap", "weight"),
        "leave_one_out_loss": ("recall_loss", "weight"),
        "negative_head_weights": ("negative_share", "weight"),
    }
    return _beside(_layered(loss, columns), effective_heads(heads))


def pair_sums(pairs: pl.DataFrame) -> Sums:
    """head_redundancy and head_correlation.

    Args:
        pairs: Pairs of heads, or sums of several pairs: sample, layer, cosine, cosine_weight, correlation and
            correlation_weight.
    """
    columns = {
        "head_redundancy": ("cosine", "cosine_weight"),
        "head_correlation": ("correlation", "correlation_weight"),
    }
    return _layered(pairs, columns)


def effective_heads(heads: pl.DataFrame) -> Sums:
    """head_effective, so that it aggregates, pairs and resamples like a ratio of sums.

    With X_j the sum over samples of a head's contributions, T their total and c_j = X_j / T, the effective number of
    heads of a layer is g = exp(H), H = -sum_j c_j ln c_j. It is no ratio of sums; its first-order expansion around the
    dataset's sums is: dg/dX_j = g (-ln c_j - H) / T, so a sample with contributions x_j and total t has the numerator
    g (t + sum_j x_j (-ln c_j - H)) and the denominator t. Over all samples the second term vanishes and the ratio is g
    exactly; across samples it carries each one's influence (the infinitesimal jackknife). Over all layers it is the
    mean of the layers' g, weighted by T.
    """
    spread = Spread(heads, ("layer", "indexer_head"))
    own, _ = spread.sums("contribution", "scored_weight")
    of_layer = spread.cells["layer"].to_numpy()
    layers = np.unique(of_layer)
    tops, bottoms = [], []
    for layer in layers:
        x = own[:, of_layer == layer]
        c = ratio(x.sum(axis=0), x.sum())
        entropy = -xlogy(c, c).sum()
        surprise = np.where(c > 0, -np.log(np.where(c > 0, c, 1.0)), 0.0)
        total = x.sum(axis=1)
        tops.append(np.nan_to_num(np.exp(entropy) * (total + x @ (surprise - entropy))))
        bottoms.append(total)
    samples = np.unique(heads["sample"].to_numpy()).astype(np.int64)
    parts = {"head_effective": (_columns(tops, len(samples)), _columns(bottoms, len(samples)))}
    return layered(samples, layers.tolist(), parts)


def _columns(arrays: list[Array], rows: int) -> Array:
    return np.stack(arrays, axis=1) if arrays else np.zeros((rows, 0))


def _layered(frame: pl.DataFrame, columns: Mapping[str, tuple[str, str]]) -> Sums:
    spread = Spread(frame, ("layer",))
    samples = np.unique(frame["sample"].to_numpy()).astype(np.int64)
    parts = {metric: spread.sums(value, weight) for metric, (value, weight) in columns.items()}
    return layered(samples, spread.cells["layer"].to_list(), parts)


def _beside(one: Sums, other: Sums) -> Sums:
    return Sums(
        one.samples,
        (*one.cells, *other.cells),
        np.concatenate([one.numerator, other.numerator], axis=1),
        np.concatenate([one.denominator, other.denominator], axis=1),
    )
