"""Distributions of single indexer heads' scores, kept in little memory until the sample is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.features.sketch import BINS, GROUPS, ScoreSketch, bin_values
from indexscope.analysis.indexer_heads.block import HeadBlock
from indexscope.analysis.indexer_heads.kernels import MOMENTS, count_scores

SELECTED, UNSELECTED, NEITHER = range(len(GROUPS) + 1)


@dataclass(frozen=True)
class HeadScores:
    """Scores w[t, j] ReLU(q[t, j] · k[s]) of some queries, on the CPU.

    Attributes:
        scores: [B, J, K], float32.
        group: Group of each key by its place in GROUPS, or NEITHER, [B, K].
        weight: How often each query's scores count, [B].
    """

    scores: NDArray[np.float32]
    group: NDArray[np.int8]
    weight: NDArray[np.float64]

    def of(self, here: slice) -> HeadScores:
        """Those of some of the queries."""
        return HeadScores(self.scores[here], self.group[here], self.weight[here])


def head_scores(block: HeadBlock) -> HeadScores:
    """The scores of a block's queries."""
    group = np.full(block.up.shape, NEITHER, dtype=np.int8)
    group[block.up.cpu().numpy()] = UNSELECTED
    group[block.chosen.cpu().numpy()] = SELECTED
    # A negative weight makes zeros negative, which would split them; adding zero undoes it.
    scores = np.ascontiguousarray(block.contribution.float().cpu().numpy()) + np.float32(0.0)
    return HeadScores(scores, group, block.weight.cpu().numpy())


class HeadSketch:
    """Scores of every head of one layer by group, each as often as its query stands for.

    Scores are counted by their leading bits, in filled bins alone: dense counts of 64 heads in 61 layers take 8 GiB.

    Args:
        heads: Indexer heads of the layer.
    """

    def __init__(self, heads: int) -> None:
        self._moments = [[ScoreSketch(histogram=np.empty(0, np.int64)) for _ in GROUPS] for _ in range(heads)]
        self._codes, self._counts = np.empty(0, np.int64), np.empty(0, np.int64)

    def add(self, some: HeadScores) -> None:
        """Count scores of the layer."""
        scores = some.scores
        moments = np.zeros((scores.shape[1], len(GROUPS), MOMENTS))
        moments[..., 3], moments[..., 4] = np.inf, -np.inf
        codes, counts = np.empty(scores.size, np.int64), np.empty(scores.size)
        filled = count_scores(scores, scores.view(np.int32), some.group, some.weight, moments, codes, counts)
        for own, found in zip(self._moments, moments, strict=True):
            for sketch, part in zip(own, found, strict=True):
                sketch.add(part, 0.0)
        self._merge(codes[:filled].copy(), np.rint(counts[:filled]).astype(np.int64))

    def _merge(self, codes: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        if not len(self._codes):
            self._codes, self._counts = codes, counts
            return
        both = np.concatenate([self._counts, counts])
        self._codes, place = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
        self._counts = np.bincount(place, both, len(self._codes)).astype(np.int64)

    def rows(self) -> list[tuple[object, ...]]:
        """Indexer head, group, count, mean, m2, minimum, maximum, zeros and sketch, where there are scores."""
        found: list[tuple[object, ...]] = []
        values = bin_values(self._codes % BINS)
        ends = np.searchsorted(self._codes, BINS * np.arange(len(self._moments) * len(GROUPS) + 1))
        for head, moments in enumerate(self._moments):
            for place, (group, own) in enumerate(zip(GROUPS, moments, strict=True), head * len(GROUPS)):
                if own.count:
                    here = slice(ends[place], ends[place + 1])
                    sketch = own.digest(values[here], self._counts[here])
                    counts = (own.count, own.mean, own.m2, own.minimum, own.maximum, own.zeros)
                    found.append((head, group, *counts, sketch))
        return found
