"""Sums of every metric by layer and bucket, over all samples and in each resample; the second of two passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.context_length.by_sample import BySample
from indexscope.analysis.context_length.extent import Extent
from indexscope.analysis.metrics.blocks import sample_blocks
from indexscope.analysis.metrics.grids import Grid, grids
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.sums import Cell, ratio_metrics
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics.resampling import Array, resample_counts

TABLES = ("tokens", "indexer", "attention")
SKILL = "selection_skill"
#: Metrics that are followed from the first bucket in effect on. Recall and output error are not: of more keys the same
#: k holds less, whatever the indexer does, even relative to the best choice, since at first nearly all are selected.
FOLLOWED = (SKILL, "sparsity_cost")
#: What they are, or are functions of.
_PARTS = frozenset(part for name in FOLLOWED for part in REGISTRY[name].bases or (name,))


@dataclass
class Buckets:
    """Sums of one metric in one layer by bucket: row 0 over all samples, then one row a resample; [1 + resamples, b].

    Attributes:
        top: Sums of value x weight.
        bottom: Sums of weight.
        at: Samples with weight in each bucket, [b].
        up_to: Samples with weight in the bucket or before it, [b].
        first_top: The sums in the layer's first bucket in effect, over the samples with weight in each bucket.
        first_bottom: The weights of those.
        paired: Samples with weight in both, [b].
    """

    top: Array
    bottom: Array
    at: NDArray[np.int64]
    up_to: NDArray[np.int64]
    first_top: Array
    first_bottom: Array
    paired: NDArray[np.int64]

    @classmethod
    def empty(cls, rows: int, buckets: int) -> Buckets:
        """Nothing yet."""
        zeros, counts = np.zeros((4, rows, buckets)), np.zeros((3, buckets), dtype=np.int64)
        return cls(zeros[0], zeros[1], counts[0], counts[1], zeros[2], zeros[3], counts[2])

    def add(self, top: Array, bottom: Array, counts: Array, first: int | None) -> None:
        """Take some samples.

        Args:
            top: Sums by sample, [samples, buckets].
            bottom: Weights, same shape.
            counts: How often each sample counts, [1 + resamples, samples].
            first: The first bucket in effect, if the metric is followed from there.
        """
        self.top += counts @ top
        self.bottom += counts @ bottom
        self.at += (bottom > 0).sum(axis=0)
        self.up_to += (np.cumsum(bottom, axis=1) > 0).sum(axis=0)
        if first is None or first >= bottom.shape[1]:
            return
        both = (bottom > 0) & (bottom[:, first : first + 1] > 0)
        self.first_top += counts @ (both * top[:, first : first + 1])
        self.first_bottom += counts @ (both * bottom[:, first : first + 1])
        self.paired += both.sum(axis=0)


def resampled(
    features: Mapping[str, pl.DataFrame] | Sharded, size: Extent, settings: BootstrapSettings, kept: BySample
) -> dict[Cell, Buckets]:
    """Every ratio metric of the tables tokens, indexer and attention, over all layers and in each.

    Args:
        features: Feature tables, read shard by shard.
        size: Samples and buckets.
        settings: The bootstrap.
        kept: Takes in the sums of each sample over all layers.
    """
    drawn = [block.astype(np.uint16) for block in resample_counts(size.samples, settings.resamples, settings.seed)]
    counts = np.concatenate([np.ones((1, size.samples), np.uint16), *drawn])
    found: dict[Cell, Buckets] = {}
    first = 0
    for block in sample_blocks(features, ["samples", *TABLES]):
        samples = np.unique(np.concatenate([frame["sample"].to_numpy() for frame in block.values()]))
        own = counts[:, first : first + len(samples)].astype(np.float64)
        first += len(samples)
        for table in TABLES:
            if table in block:
                _add(found, block, table, samples, own, size, kept)
    return found


def _add(
    found: dict[Cell, Buckets],
    block: Mapping[str, pl.DataFrame],
    table: str,
    samples: NDArray[np.int64],
    counts: Array,
    size: Extent,
    kept: BySample,
) -> None:
    frame = block[table].filter(pl.col("bucket") < size.buckets)
    layered = "layer" in frame.columns
    # Without an indexer nothing is in effect.
    rules = ratio_metrics({"indexer": frame} if size.first else {}, table)
    if frame.is_empty():
        return
    if not rules:
        return
    for (grid,) in grids(frame, rules, ["bucket"]):
        drawn = counts[:, np.searchsorted(samples, grid.samples)]
        layers = grid.layers.tolist() if layered else []
        for number, name in enumerate(rules):
            top, bottom = (_spread(grid, part[number], size.buckets) for part in (grid.numerator, grid.denominator))
            for place, layer in enumerate([None, *layers], -1):
                cell = (name, layer)
                if cell not in found:
                    found[cell] = Buckets.empty(len(counts), size.buckets)
                whole = layer is None
                tops, bottoms = (part.sum(axis=1) if whole else part[:, place] for part in (top, bottom))
                if whole:
                    kept.add(name, grid.samples, tops, bottoms)
                found[cell].add(tops, bottoms, drawn, size.first.get(layer) if name in _PARTS else None)


def _spread(grid: Grid, part: Array, buckets: int) -> Array:
    """Sums [samples, layers, others] on all buckets, [samples, layers, buckets]; 0 where there was nothing."""
    spread = np.zeros((*part.shape[:2], buckets))
    spread[:, :, grid.others] = part
    return spread
