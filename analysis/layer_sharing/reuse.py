"""The close-up's table ``layer_sharing`` as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.sums import column
from indexscope.analysis.statistics.resampling import Array, ratio

MEANS = ("jaccard", "overlap", "recall", "own_recall", "random_recall")


@dataclass(frozen=True)
class Reuse:
    """What layers lose with earlier layers' selections: sums over the queries in effect of n samples and L layers.

    Attributes:
        samples: Sample ids, increasing, [n].
        layers: Layer ids, increasing, [L].
        own: Layers with an indexer of their own, [L].
        weight: Queries in effect, [n, L].
        lost: Weight x (own_recall - recall) of each layer and source, [n, L, L]; 0 from the diagonal on.
        near: Weight x overlap with the layer before, [n, L]; 0 for the first.
        sums: Weight x mean over all samples of each of `MEANS`, [L, L].
    """

    samples: NDArray[np.int64]
    layers: NDArray[np.int64]
    own: NDArray[np.bool_]
    weight: Array
    lost: Array
    near: Array
    sums: dict[str, Array]

    def mean(self, name: str) -> Array:
        """One of `MEANS` over all samples by layer and source, [L, L]; NaN where nothing was in effect."""
        return ratio(self.sums[name], self.weight.sum(axis=0)[:, None])

    @property
    def loss(self) -> Array:
        """Recall lost by layer and source, [L, L]; 0 from the diagonal on, NaN where nothing was in effect."""
        return ratio(self.lost.sum(axis=0), self.weight.sum(axis=0)[:, None])


def reuse(features: Mapping[str, pl.DataFrame] | Sharded) -> Reuse | None:
    """Read ``layer_sharing`` shard by shard, twice; None where there is no layer that could be scheduled.

    Left out are layers in which no query was in effect, since everything was selected, and layers without an indexer
    of their own that follow no layer that has one.
    """
    layers = _scheduled(features)
    if not len(layers):
        return None
    parts = [_sums(frame, layers) for frame in _frames(features)]
    own = np.any([part.own for part in parts], axis=0)
    order = np.argsort(np.concatenate([part.samples for part in parts]), kind="stable")

    def stacked(arrays: Sequence[Array]) -> Array:
        return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays))[order]

    return Reuse(
        np.concatenate([part.samples for part in parts])[order],
        layers,
        own,
        stacked([part.weight for part in parts]),
        stacked([part.lost for part in parts]),
        stacked([part.near for part in parts]),
        {name: np.sum([part.sums[name] for part in parts], axis=0) for name in MEANS},
    )


def _frames(features: Mapping[str, pl.DataFrame] | Sharded) -> Iterator[pl.DataFrame]:
    for part in shards(features, ["layer_sharing"]):
        if "layer_sharing" in part and not part["layer_sharing"].is_empty():
            yield part["layer_sharing"]


def _scheduled(features: Mapping[str, pl.DataFrame] | Sharded) -> NDArray[np.int64]:
    kinds = [frame.group_by("layer").agg(pl.col("own").any(), pl.col("weight").sum()) for frame in _frames(features)]
    if not kinds:
        return np.empty(0, np.int64)
    known = pl.concat(kinds).group_by("layer").agg(pl.col("own").any(), pl.col("weight").sum()).sort("layer")
    known = known.filter(pl.col("weight") > 0)
    known = known.filter(pl.col("own").cast(pl.Int32).cum_max() > 0)
    return np.asarray(known["layer"].to_numpy(), dtype=np.int64)


def _sums(frame: pl.DataFrame, layers: NDArray[np.int64]) -> Reuse:
    """One shard's part, on the layers that are kept."""
    kept = frame.filter(pl.col("layer").is_in(layers) & pl.col("source").is_in(layers))
    samples, place = np.unique(kept["sample"].to_numpy(), return_inverse=True)
    layer = np.searchsorted(layers, kept["layer"].to_numpy())
    source = np.searchsorted(layers, kept["source"].to_numpy())
    weight = column(kept, "weight")
    value = {name: np.nan_to_num(column(kept, name)) * weight for name in MEANS}
    size = len(layers)
    of_layer, lost = np.zeros((2, len(samples), size)), np.zeros((len(samples), size, size))
    diagonal, near = source == layer, source == layer - 1
    of_layer[0][place[diagonal], layer[diagonal]] = weight[diagonal]
    of_layer[1][place[near], layer[near]] = value["overlap"][near]
    lost[place, layer, source] = value["own_recall"] - value["recall"]
    lost[:, np.arange(size), np.arange(size)] = 0.0
    sums = {name: np.zeros((size, size)) for name in MEANS}
    for name in MEANS:
        np.add.at(sums[name], (layer, source), value[name])
    own = np.zeros(size, dtype=bool)
    own[layer[kept["own"].to_numpy()]] = True
    return Reuse(samples.astype(np.int64), layers, own, of_layer[0], lost, of_layer[1], sums)
