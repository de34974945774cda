"""The ``positions`` table of one axis as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analysis.metrics.sums import column
from analysis.statistics import Array


@dataclass(frozen=True)
class Tally:
    """Selections and attention with what chance gives, each [samples, layers, bins]; 0 where a sample has no row.

    Attributes:
        samples: Sample ids, increasing.
        layers: Layer ids, increasing.
        bins: Bins that occur, increasing.
        selections: Keys selected; 0 for models without an indexer.
        expected: Selections that a random selector of the same size would make.
        attention: Head-mean attention.
        attention_expected: Attention if it were uniform.
    """

    samples: NDArray[np.int64]
    layers: NDArray[np.int64]
    bins: NDArray[np.int64]
    selections: Array
    expected: Array
    attention: Array
    attention_expected: Array


def tally(frame: pl.DataFrame) -> Tally:
    """Arrays of one axis' rows of the ``positions`` table, whatever the order of the rows."""
    keys = ("sample", "layer", "bin")
    values, places = zip(*(np.unique(frame[key].to_numpy(), return_inverse=True) for key in keys), strict=True)
    shape = tuple(len(value) for value in values)

    def spread(name: str) -> Array:
        array = np.zeros(shape)
        np.add.at(array, places, np.nan_to_num(column(frame, name)))
        return array

    samples, layers, bins = (value.astype(np.int64) for value in values)
    names = ("selections", "expected_selections", "attention_mass", "attention_expected")
    return Tally(samples, layers, bins, *(spread(name) for name in names))
