"""The inner loop of `grids`; in a file of its own so that compilers are loaded only where there is something to add."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact
from indexscope.analysis.statistics.resampling import Array


@exact
def add(
    table: Array, wanted: NDArray[np.int64], places: NDArray[np.int64], numerator: Array, denominator: Array
) -> None:
    """Add every row of a table to its place in each grid, in order; rows with NaN or without weight are left out.

    Args:
        table: Columns as float64, [columns, rows].
        wanted: Columns of each metric's value, minus, weight and over, [metrics, 4]; -1 for none.
        places: Where each row goes, [grids, rows].
        numerator: Changed, [metrics, places].
        denominator: Changed, [metrics, places].
    """
    for metric in range(wanted.shape[0]):
        value, minus, weight, over = wanted[metric]
        for row in range(places.shape[1]):
            factor = table[weight, row] if weight >= 0 else 1.0
            amount = table[value, row]
            if minus >= 0:
                amount -= table[minus, row]
            base = table[over, row] if over >= 0 else 1.0
            if factor > 0 and not np.isnan(amount) and not np.isnan(base):
                for grid in range(places.shape[0]):
                    numerator[metric, places[grid, row]] += amount * factor
                    denominator[metric, places[grid, row]] += base * factor
