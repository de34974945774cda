"""Distributions of single indexer heads' scores, kept in little memory until the sample is done."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from indexscope.analysis.features.sketch import BINS, GROUPS, KEPT_BITS, ScoreSketch
from indexscope.analysis.indexer_heads.block import HeadBlock

# Heads that are counted at once: a dense count of one group of one head is 1 MiB.
_AT_ONCE = 8


@dataclass
class _Filled:
    """A histogram by its filled bins, ascending. Dense ones of 64 heads in 61 layers would take 8 GiB."""

    bins: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, bins: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.bins, place = np.unique(np.concatenate([self.bins, bins]), return_inverse=True)
        both = np.concatenate([self.counts, counts])
        self.counts = np.bincount(place, both, len(self.bins)).astype(np.int64)


class HeadSketch:
    """Scores w[t, j] ReLU(q[t, j] · k[s]) of every head of one layer by group, each as often as its query stands for.

    Args:
        heads: Indexer heads of the layer.
    """

    def __init__(self, heads: int) -> None:
        self._moments = [[ScoreSketch(histogram=np.empty(0, np.int64)) for _ in GROUPS] for _ in range(heads)]
        self._filled = [[_Filled() for _ in GROUPS] for _ in range(heads)]

    def add(self, block: HeadBlock) -> None:
        """Count the scores of a block's queries."""
        # A negative weight makes zeros negative, which would split them; adding zero undoes it.
        scores = block.contribution.float() + 0.0
        for first in range(0, scores.shape[1], _AT_ONCE):
            some = scores[:, first : first + _AT_ONCE]
            for group, mask in enumerate((block.chosen, block.up & ~block.chosen)):
                for head, moments in enumerate(_moments(some, mask, block.weight).tolist(), first):
                    self._moments[head][group].add(np.array(moments), 0.0)
                for head, (bins, counts) in enumerate(_histograms(some, mask, block.weight), first):
                    self._filled[head][group].add(bins, counts)

    def rows(self) -> list[tuple[object, ...]]:
        """Indexer head, group, count, mean, m2, minimum, maximum, zeros and sketch, where there are scores."""
        found: list[tuple[object, ...]] = []
        dense = np.zeros(BINS, dtype=np.int64)
        for head, (moments, filled) in enumerate(zip(self._moments, self._filled, strict=True)):
            for group, own, kept in zip(GROUPS, moments, filled, strict=True):
                if not own.count:
                    continue
                dense[kept.bins] = kept.counts
                own.histogram = dense
                counts = (own.count, own.mean, own.m2, own.minimum, own.maximum, own.zeros)
                found.append((head, group, *counts, own.serialize()))
                dense[kept.bins] = 0
        return found


def _moments(scores: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Count, sum, sum of squares, minimum, maximum and zeros of each head, [heads, 6], float64."""
    times = (mask * weight.unsqueeze(-1)).unsqueeze(1)
    values, outside = scores.double(), ~mask.unsqueeze(1)
    parts = (
        times.expand_as(values).sum((0, 2)),
        (values * times).sum((0, 2)),
        (values.square() * times).sum((0, 2)),
        values.masked_fill(outside, torch.inf).amin((0, 2)),
        values.masked_fill(outside, -torch.inf).amax((0, 2)),
        ((values == 0) * times).sum((0, 2)),
    )
    return torch.stack(parts, -1).cpu()


def _histograms(
    scores: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Filled bins and counts of each head."""
    batch, heads, _ = scores.shape
    bins = (scores.contiguous().view(torch.int32) >> (32 - KEPT_BITS)).long() & (BINS - 1)
    bins += BINS * torch.arange(heads, device=scores.device).view(1, -1, 1)
    counted = mask.unsqueeze(1).expand_as(scores)
    times = weight.view(batch, 1, 1).expand_as(scores)[counted]
    counts = torch.bincount(bins[counted], times, minlength=heads * BINS).view(heads, BINS)
    found = []
    for own in counts:
        filled = torch.nonzero(own).squeeze(-1)
        found.append((filled.cpu().numpy(), own[filled].round().long().cpu().numpy()))
    return found
