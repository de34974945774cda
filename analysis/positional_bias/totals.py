"""What the whole dataset adds up to, by layer and bin: the first of two passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from indexscope.analysis.positional_bias.chance import scatter
from indexscope.analysis.positional_bias.tally import BINS, Ids, tally
from indexscope.analysis.statistics.resampling import Array


@dataclass(frozen=True)
class Totals:
    """Sums over all samples of one axis, each [layers, bins].

    Attributes:
        layers: Layer ids, increasing.
        bins: Bins that occur, increasing.
        selections: Keys selected.
        expected: Selections expected by chance.
        attention: Head-mean attention.
        attention_expected: Attention if it were uniform.
        keys: Eligible keys of queries with a selection.
        variance: Variance of the selections of a random selector.
    """

    layers: Ids
    bins: Ids
    selections: Array
    expected: Array
    attention: Array
    attention_expected: Array
    keys: Array
    variance: Array


def totals(blocks: Iterable[pl.DataFrame]) -> tuple[dict[str, Totals], int]:
    """Sums of each axis of `BINS`, none where the table has no rows, and the number of samples."""
    sums: dict[str, dict[int, Array]] = {axis: {} for axis in BINS}
    samples = 0
    for block in blocks:
        if block.is_empty():
            continue
        crossed = tally(block)
        samples += len(crossed.samples)
        chance = scatter(crossed.along("distance"))
        for axis, width in BINS.items():
            own = crossed.along(axis)
            for place, layer in enumerate(own.layers.tolist()):
                kept = sums[axis].setdefault(layer, np.zeros((7, width)))
                for row, part in enumerate(own.sums):
                    kept[row, own.bins] += part[:, place].sum(axis=0)
                for row, part in enumerate(chance[axis], len(own.sums)):
                    kept[row, own.bins] += part[place, own.bins]
                kept[6, own.bins] = 1
    return {axis: _stacked(by_layer) for axis, by_layer in sums.items() if by_layer}, samples


def _stacked(by_layer: dict[int, Array]) -> Totals:
    layers = np.array(sorted(by_layer), dtype=np.int64)
    stacked = np.stack([by_layer[layer] for layer in layers.tolist()], axis=1)
    bins = np.flatnonzero(stacked[6].any(axis=0)).astype(np.int64)
    return Totals(layers, bins, *stacked[:6, :, bins])
