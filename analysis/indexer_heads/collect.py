"""Indexer heads at the sampled queries: what each one does, which are alike, and what is lost without them.

Entry points: `head_collector`; then `remove_heads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Rerun, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.closeup.stacked import by_layer
from indexscope.analysis.features.positions import AXES
from indexscope.analysis.indexer_heads.block import head_blocks
from indexscope.analysis.indexer_heads.measures import Positions, head_measures, pair_measures, position_sums
from indexscope.analysis.indexer_heads.removal import pruning_collector, removal_order, remove_heads
from indexscope.analysis.indexer_heads.sketch import HeadSketch, head_scores
from indexscope.analysis.indexer_heads.tables import COLLECTED, HEADS, PAIRS, POSITIONS, REMOVED, SCORES
from indexscope.columns import Table

__all__ = ["head_collector", "pruning_collector", "removal_order"]

Columns = dict[str, NDArray[Any]]


def head_collector() -> Maker:
    """Collectors of what single indexer heads do at queries in effect.

    Tables:
        indexer_heads: Means by sample, layer and indexer head (`indexscope.analysis.indexer_heads.measures`).
        indexer_head_pairs: Cosine, correlation and overlap by sample, layer and pair of heads.
        indexer_head_scores: Moments and sketch of w[t, j] ReLU(q[t, j] · k[s]) of selected and unselected keys.
        indexer_head_positions: Selections of each head's own top k by distance and relative position.
    """
    return _HeadCollector


class _HeadCollector:
    def __init__(self, sample: CloseupSample) -> None:
        self._sample = sample.index
        self._ids = sample.input_ids
        self._bins = int(len(sample.input_ids) - 1).bit_length() + 1
        self._layers: dict[int, _LayerSums] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        for block in head_blocks(layers):
            quantities, own = head_measures(block, self._ids.to(block.p.device))
            means, pairs = (_weighted(part, block.weight) for part in (quantities, pair_measures(block, own)))
            stretches = list(by_layer(block.layer))
            positions = position_sums(block, own, [here for _, here in stretches], self._bins)
            scores = head_scores(block)
            for (layer, here), selections in zip(stretches, positions, strict=True):
                if layer not in self._layers:
                    self._layers[layer] = _LayerSums(block.relu.shape[1])
                sums = self._layers[layer]
                sums.queries += here.stop - here.start
                sums.weight += float(scores.weight[here].sum())
                sums.means += means[:, here].sum(axis=1)
                sums.pairs += pairs[:, here].sum(axis=1)
                sums.add_selections(selections)
                sums.scores.add(scores.of(here))

    def tables(self) -> Tables:
        layers = sorted(self._layers.items())
        scores = [(self._sample, layer, *row) for layer, sums in layers for row in sums.scores.rows()]
        return {
            "indexer_heads": self._table(HEADS, [(layer, sums.heads_columns()) for layer, sums in layers]),
            "indexer_head_pairs": self._table(PAIRS, [(layer, sums.pair_columns()) for layer, sums in layers]),
            "indexer_head_scores": pl.DataFrame(scores, schema=SCORES.schema, orient="row"),
            "indexer_head_positions": self._table(POSITIONS, [(layer, sums.bin_columns()) for layer, sums in layers]),
        }

    def _table(self, table: Table, layers: list[tuple[int, Columns]]) -> pl.DataFrame:
        """One table of the sample: the columns of all layers below each other."""
        if not layers:
            return table.empty()
        sizes = [len(next(iter(columns.values()))) for _, columns in layers]
        joined = {name: np.concatenate([columns[name] for _, columns in layers]) for name in layers[0][1]}
        places = {
            "sample": np.full(sum(sizes), self._sample),
            "layer": np.repeat([layer for layer, _ in layers], sizes),
        }
        return table.shaped(pl.DataFrame(places | joined, nan_to_null=True))


class _LayerSums:
    """Weighted sums of one layer over a sample's queries: numerators and weights of the means are one array."""

    def __init__(self, heads: int) -> None:
        self.heads = heads
        self.queries, self.weight = 0, 0.0
        self.means = np.zeros((2, heads, len(HEADS.weights)))
        self.pairs = np.zeros((2, len(PAIRS.weights), heads, heads))
        self.selections: Positions = {}
        self.scores = HeadSketch(heads)

    def add_selections(self, sums: Positions) -> None:
        """Add selections by bin."""
        for axis, values in sums.items():
            self.selections[axis] = self.selections.get(axis, 0.0) + values

    def heads_columns(self) -> Columns:
        """Columns of ``indexer_heads``."""
        values, weights = _means(self.means)
        columns: Columns = {"indexer_head": np.arange(self.heads), "queries": np.full(self.heads, self.queries)}
        for place, (name, weight) in enumerate(HEADS.weights.items()):
            columns.setdefault(weight, weights[:, place])
            columns[name] = values[:, place]
        return columns

    def pair_columns(self) -> Columns:
        """Columns of ``indexer_head_pairs``."""
        first, second = np.triu_indices(self.heads, 1)
        values, weights = _means(self.pairs[..., first, second])
        columns: Columns = {"head_a": first, "head_b": second}
        for place, (name, weight) in enumerate(PAIRS.weights.items()):
            columns[weight] = weights[place]
            columns[name] = values[place]
        return columns

    def bin_columns(self) -> Columns:
        """Columns of ``indexer_head_positions``; a bin that no query could reach says nothing."""
        own = np.concatenate([self.selections[axis] for axis in AXES], axis=1)
        expected = own[-1] > 0
        axis = np.concatenate([np.full(self.selections[axis].shape[1], axis) for axis in AXES])[expected]
        place = np.concatenate([np.arange(self.selections[axis].shape[1]) for axis in AXES])[expected]
        size = self.heads * len(place)
        return {
            "indexer_head": np.repeat(np.arange(self.heads), len(place)),
            "axis": np.tile(axis, self.heads),
            "bin": np.tile(place, self.heads),
            "queries": np.full(size, self.queries),
            "weight": np.full(size, self.weight),
            "selections": own[:-1, expected].ravel(),
            "expected_selections": np.tile(own[-1, expected], self.heads),
        }


def _weighted(values: torch.Tensor, weight: torch.Tensor) -> NDArray[np.float64]:
    """Values [B, ...] times the queries' weights, and the weights where they are known, [2, B, ...]; NaN is unknown."""
    times = weight.view(-1, *(1,) * (values.dim() - 1)) * ~values.isnan()
    return np.asarray(torch.stack([values.nan_to_num() * times, times]).cpu().numpy(), dtype=np.float64)


def _means(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means, NaN without weight, and their weights, of sums [2, ...]."""
    with np.errstate(invalid="ignore"):
        return sums[0] / sums[1], sums[1]


CLOSEUP = Collected(COLLECTED, lambda look: (head_collector(),), Rerun(REMOVED, remove_heads))
