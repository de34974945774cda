"""Indexer heads at the sampled queries: what each one does, which are alike, and what is lost without them.

Entry points: `head_collector`; then, on other samples than those, `removal_order` and `pruning_collector`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.positions import AXES
from indexscope.analysis.indexer_heads.block import HeadBlock, head_blocks
from indexscope.analysis.indexer_heads.measures import head_measures, pair_measures, position_sums
from indexscope.analysis.indexer_heads.removal import pruning_collector, removal_order
from indexscope.analysis.indexer_heads.sketch import HeadSketch
from indexscope.analysis.indexer_heads.tables import COLLECTED, HEADS, PAIRS, POSITIONS, SCORES
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
        self._layers: dict[int, _LayerSums] = {}

    def add(self, layers: Sequence[CloseupRows]) -> None:
        for rows in layers:
            for block in head_blocks(rows):
                if rows.layer not in self._layers:
                    self._layers[rows.layer] = _LayerSums(block.relu.shape[1], len(self._ids))
                self._layers[rows.layer].add(block, self._ids.to(block.p.device))

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
    """Weighted sums of one layer over a sample's queries, float64 on the CPU."""

    def __init__(self, heads: int, length: int) -> None:
        self.heads = heads
        self.queries = 0
        self._weight = 0.0
        self._means = _Mean((heads, len(HEADS.weights)))
        self._pairs = _Mean((len(PAIRS.weights), heads, heads))
        self._bins = int(length - 1).bit_length() + 1
        self._selections: dict[str, NDArray[np.float64]] = {}
        self.scores = HeadSketch(heads)

    def add(self, block: HeadBlock, ids: torch.Tensor) -> None:
        self.queries += len(block.query)
        self._weight += float(block.weight.sum())
        quantities, own = head_measures(block, ids)
        self._means.add(quantities, block.weight)
        self._pairs.add(pair_measures(block, own), block.weight)
        for axis, sums in position_sums(block, own, self._bins).items():
            self._selections[axis] = self._selections.get(axis, 0.0) + sums
        self.scores.add(block)

    def heads_columns(self) -> Columns:
        """Columns of ``indexer_heads``."""
        weights, values = self._means.weight, self._means.value
        columns: Columns = {"indexer_head": np.arange(self.heads), "queries": np.full(self.heads, self.queries)}
        for place, (name, weight) in enumerate(HEADS.weights.items()):
            columns.setdefault(weight, weights[:, place])
            columns[name] = values[:, place]
        return columns

    def pair_columns(self) -> Columns:
        """Columns of ``indexer_head_pairs``."""
        first, second = np.triu_indices(self.heads, 1)
        columns: Columns = {"head_a": first, "head_b": second}
        for place, (name, weight) in enumerate(PAIRS.weights.items()):
            columns[weight] = self._pairs.weight[place, first, second]
            columns[name] = self._pairs.value[place, first, second]
        return columns

    def bin_columns(self) -> Columns:
        """Columns of ``indexer_head_positions``; a bin that no query could reach says nothing."""
        own = np.concatenate([self._selections[axis] for axis in AXES], axis=1)
        expected = own[-1] > 0
        axis = np.concatenate([np.full(self._selections[axis].shape[1], axis) for axis in AXES])[expected]
        place = np.concatenate([np.arange(self._selections[axis].shape[1]) for axis in AXES])[expected]
        size = self.heads * len(place)
        return {
            "indexer_head": np.repeat(np.arange(self.heads), len(place)),
            "axis": np.tile(axis, self.heads),
            "bin": np.tile(place, self.heads),
            "queries": np.full(size, self.queries),
            "weight": np.full(size, self._weight),
            "selections": own[:-1, expected].ravel(),
            "expected_selections": np.tile(own[-1, expected], self.heads),
        }


class _Mean:
    """A weighted mean over queries, without those where it is NaN."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._sum = torch.zeros(shape, dtype=torch.float64)
        self._weight = torch.zeros(shape, dtype=torch.float64)

    def add(self, values: torch.Tensor, weight: torch.Tensor) -> None:
        """Take values [B, *shape] of queries with weights [B]."""
        times = weight.view(-1, *(1,) * (values.dim() - 1)) * ~values.isnan()
        self._sum += (values.nan_to_num() * times).sum(0).cpu()
        self._weight += times.sum(0).cpu()

    @property
    def weight(self) -> NDArray[np.float64]:
        """Weight behind the mean."""
        return np.asarray(self._weight.numpy(), dtype=np.float64)

    @property
    def value(self) -> NDArray[np.float64]:
        """The mean; NaN without weight."""
        return np.asarray((self._sum / self._weight).numpy(), dtype=np.float64)


CLOSEUP = Collected(
    COLLECTED,
    lambda look: (head_collector(),),
    later=lambda pilot: pruning_collector(removal_order(pilot["indexer_heads"])),
)
