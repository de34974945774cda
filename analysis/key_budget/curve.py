"""What k keys hold by k, and the smallest k that holds so much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.key_budget.tables import RECALL_AT_K
from indexscope.analysis.metrics.ratios import cells
from indexscope.analysis.statistics.resampling import Array, ratio


def completed(sums: pl.DataFrame) -> pl.DataFrame:
    """Every sample on the grid of the longest: beyond its own last k everything is selected, and nothing changes."""
    names = [part for name in RECALL_AT_K.weights for part in (name, f"{name}_weight")]
    places = sums.select("sample", "layer").unique()
    full = places.join(sums.select("k").unique(), how="cross")
    filled = full.join(sums, on=["sample", "layer", "k"], how="left").sort("layer", "sample", "k")
    return filled.with_columns(pl.col(*names).forward_fill().over("sample", "layer"))


@dataclass(frozen=True)
class Curve:
    """Recall of the k best-scored keys and the keys that are attended then, by sample and cell.

    Attributes:
        k: The grid, increasing, [K].
        samples: Sample ids, increasing.
        recall: Sums of recall x weight, [samples, cells, K].
        kept: Sums of min(n_t, k) x weight, same shape.
        weight: Sums of weight, [samples, cells]; 0 where there are no index scores.
    """

    k: Array
    samples: NDArray[np.int64]
    recall: Array
    kept: Array
    weight: Array


def curve(sums: pl.DataFrame) -> Curve:
    """The curve of every layer, null first, of completed sums."""
    recall, kept = (cells(sums, ("layer", "k"), name) for name in ("indexer_recall", "kept"))
    k = np.unique(sums["k"].to_numpy()).astype(float)
    shape = (len(recall.samples), -1, len(k))
    weight = recall.denominator.reshape(shape)
    own = kept.numerator.reshape(shape) * (weight > 0)
    return Curve(k, recall.samples, recall.numerator.reshape(shape), own, weight[..., 0])


@dataclass(frozen=True)
class Fixed:
    """The smallest k that reaches a recall, the same for all queries.

    Attributes:
        k: Interpolated between the budgets of the grid, [...]; NaN where the recall is never reached.
        keys: Mean of min(n_t, k), interpolated alike.
        upper: Index of the first budget of the grid that reaches the recall.
        share: Where k lies between that budget and the one below, from 0 to 1; 1 at the grid's first.
    """

    k: Array
    keys: Array
    upper: NDArray[np.int64]
    share: Array


def fixed(grid: Array, recall: Array, kept: Array, target: Array) -> Fixed:
    """Invert recall(k), linear in k between the grid's budgets; at most one key where that is already enough.

    Args:
        grid: Budgets k, [K].
        recall: Recall at each, [..., K], not falling.
        kept: Keys attended at each, [..., K].
        target: Recall to reach, [...].
    """
    reached = recall >= target[..., None]
    upper = reached.argmax(axis=-1)
    lower = np.maximum(upper - 1, 0)

    def at(values: Array, place: NDArray[np.int64]) -> Array:
        return np.take_along_axis(np.broadcast_to(values, recall.shape), place[..., None], -1)[..., 0]

    step = at(recall, upper) - at(recall, lower)
    share = np.where(upper == 0, 1.0, ratio(target - at(recall, lower), step))
    share = np.where(reached.any(axis=-1), share, np.nan)

    def between(values: Array) -> Array:
        below, above = at(values, lower), at(values, upper)
        return below + share * (above - below)

    return Fixed(between(grid), between(kept), upper, share)
