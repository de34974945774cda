"""Indexer heads at the sampled queries: what each one does, which are alike, and what is lost without them.

Entry points: `head_collector`; then, on other samples than those, `removal_order` and `pruning_collector`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Collected, Maker, Tables
from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.positions import AXES, RELATIVE_BINS
from indexscope.analysis.indexer_heads.block import HeadBlock, head_blocks
from indexscope.analysis.indexer_heads.measures import head_measures, pair_measures, position_sums
from indexscope.analysis.indexer_heads.removal import pruning_collector, removal_order
from indexscope.analysis.indexer_heads.sketch import HeadSketch
from indexscope.analysis.indexer_heads.tables import COLLECTED, HEADS, PAIRS, SCORES

__all__ = ["head_collector", "pruning_collector", "removal_order"]


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
        found: dict[str, list[pl.DataFrame]] = {}
        for layer, sums in sorted(self._layers.items()):
            for name, frame in sums.tables().items():
                place = (pl.lit(self._sample, pl.Int32).alias("sample"), pl.lit(layer, pl.Int16).alias("layer"))
                found.setdefault(name, []).append(frame.select(*place, pl.all()))
        tables = {}
        for name, table in _TABLES.items():
            frames = [table.empty(), *(frame.cast(table.schema) for frame in found.get(name, []))]
            tables[name] = pl.concat(frames).with_columns(pl.col(table.floats).fill_nan(None))
        return tables


_TABLES = {name: table for name, table in COLLECTED.items() if name != "indexer_pruning"}


class _LayerSums:
    """Weighted sums of one layer over a sample's queries, float64 on the CPU."""

    def __init__(self, heads: int, length: int) -> None:
        self.heads = heads
        self.queries = 0
        self._weight = 0.0
        self._means = {name: _Mean((heads,)) for name in HEADS.weights}
        self._pairs = {name: _Mean((heads, heads)) for name in ("cosine", "correlation", "overlap")}
        self._bins = int(length - 1).bit_length() + 1
        self._selections = {axis: torch.zeros(heads, self._size(axis), dtype=torch.float64) for axis in AXES}
        self._expected = {axis: torch.zeros(self._size(axis), dtype=torch.float64) for axis in AXES}
        self._scores = HeadSketch(heads)

    def _size(self, axis: str) -> int:
        return RELATIVE_BINS if axis == "relative" else self._bins

    def add(self, block: HeadBlock, ids: torch.Tensor) -> None:
        self.queries += len(block.query)
        self._weight += float(block.weight.sum())
        own = block.inclusion(block.contribution)
        for name, value in head_measures(block, own, ids).items():
            self._means[name].add(value, block.weight)
        for name, value in zip(self._pairs, pair_measures(block, own), strict=True):
            self._pairs[name].add(value, block.weight)
        for axis, (selections, expected) in position_sums(block, own, self._bins).items():
            self._selections[axis] += selections
            self._expected[axis] += expected
        self._scores.add(block)

    def tables(self) -> Tables:
        scores = pl.DataFrame(self._scores.rows(), schema=list(SCORES.schema)[2:], orient="row")
        return {
            "indexer_heads": self._head_table(),
            "indexer_head_pairs": self._pair_table(),
            "indexer_head_scores": scores,
            "indexer_head_positions": self._position_table(),
        }

    def _head_table(self) -> pl.DataFrame:
        columns: dict[str, object] = {
            "indexer_head": np.arange(self.heads),
            "queries": np.full(self.heads, self.queries),
        }
        for name, weight in HEADS.weights.items():
            columns.setdefault(weight, self._means[name].weight)
            columns[name] = self._means[name].value
        return pl.DataFrame(columns)

    def _pair_table(self) -> pl.DataFrame:
        first, second = np.triu_indices(self.heads, 1)
        columns: dict[str, object] = {"head_a": first, "head_b": second}
        for name, weight in PAIRS.weights.items():
            columns[weight] = self._pairs[name].weight[first, second]
            columns[name] = self._pairs[name].value[first, second]
        return pl.DataFrame(columns)

    def _position_table(self) -> pl.DataFrame:
        frames = []
        for axis in AXES:
            expected = self._expected[axis].numpy()
            head, place = (part.ravel() for part in np.indices((self.heads, len(expected))))
            frame = pl.DataFrame(
                {
                    "indexer_head": head,
                    "axis": [axis] * len(head),
                    "bin": place,
                    "queries": np.full(len(head), self.queries),
                    "weight": np.full(len(head), self._weight),
                    "selections": self._selections[axis].numpy().ravel(),
                    "expected_selections": np.tile(expected, self.heads),
                }
            )
            # A bin that no query could reach says nothing.
            frames.append(frame.filter(pl.col("expected_selections") > 0))
        return pl.concat(frames).sort("indexer_head", "axis", "bin")


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
