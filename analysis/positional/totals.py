"""What the whole dataset adds up to, by layer and bin: the first of two passes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from analysis.positional.chance import scatter
from analysis.positional.tally import BINS, Ids, axes_of, tally
from analysis.statistics import Array


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


_SUMS = ("selections", "expected", "attention", "attention_expected")


def totals(blocks: Iterable[pl.DataFrame]) -> tuple[dict[str, Totals], int]:
    """Sums of each axis that the table has, and the number of samples."""
    sums: dict[str, dict[int, Array]] = {}
    samples = 0
    for block in blocks:
        samples += block["sample"].n_unique()
        chance: dict[str, tuple[Array, Array]] = {}
        for axis, rows in axes_of(block):
            own = tally(rows)
            chance = scatter(own) if axis == "distance" else chance
            bins = own.bins
            for place, layer in enumerate(own.layers.tolist()):
                kept = sums.setdefault(axis, {}).setdefault(layer, np.zeros((7, BINS[axis])))
                for row, name in enumerate(_SUMS):
                    kept[row, bins] += getattr(own, name)[:, place].sum(axis=0)
                kept[6, bins] = 1
                if axis in chance and place < len(chance[axis][0]):
                    for row, part in enumerate(chance[axis], 4):
                        kept[row, bins] += part[place] if axis == "distance" else part[place, bins]
    return {axis: _stacked(by_layer) for axis, by_layer in sums.items()}, samples


def _stacked(by_layer: dict[int, Array]) -> Totals:
    layers = np.array(sorted(by_layer), dtype=np.int64)
    stacked = np.stack([by_layer[layer] for layer in layers.tolist()], axis=1)
    bins = np.flatnonzero(stacked[6].any(axis=0)).astype(np.int64)
    return Totals(layers, bins, *stacked[:6, :, bins])
