"""Quantiles of weighted queries under every resample of their samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.compiled import exact
from indexscope.analysis.statistics.resampling import Array


@exact
def quantiles_of(ordered: Array, weight: Array, sample: NDArray[np.int64], counts: Array, levels: Array) -> Array:
    """The smallest value whose queries, with all smaller ones, hold a share of the weight.

    Args:
        ordered: Values of the queries, ascending, [Q], one at least.
        weight: What each stands for, [Q].
        sample: Place of its sample, [Q].
        counts: How often each sample is drawn, [resamples, samples].
        levels: Shares of the weight.

    Returns:
        [resamples, levels]; NaN for a resample without weight.
    """
    found = np.full((len(counts), len(levels)), np.nan)
    reached = np.empty(len(ordered))
    for row in range(len(counts)):
        total = 0.0
        for query in range(len(ordered)):
            total += counts[row, sample[query]] * weight[query]
            reached[query] = total
        if total == 0.0:
            continue
        for level in range(len(levels)):
            # A share of the total that should be met exactly is missed by rounding otherwise.
            at = np.searchsorted(reached, levels[level] * total * (1 - 1e-12))
            found[row, level] = ordered[min(at, len(ordered) - 1)]
    return found
