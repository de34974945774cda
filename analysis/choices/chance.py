"""What two selections share by chance."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.stats import hypergeom

from indexscope.analysis.choices.pairs import Integers
from indexscope.analysis.statistics import Array


def jaccard_by_chance(eligible: Integers, before: Integers, after: Integers) -> Array:
    """Expected Jaccard similarity of a selection with a random one, of each query.

    A random selector that takes k' of n keys shares X of the k that are selected, hypergeometric, and the Jaccard
    similarity is X / (k + k' - X); the expectation is summed exactly, since X / (k + k' - X) is not linear.

    Args:
        eligible: n_t, [rows].
        before: k_t of the one selection.
        after: k_t of the random one.

    >>> float(jaccard_by_chance(np.array([2]), np.array([1]), np.array([1]))[0])
    0.5
    """
    cells, place = np.unique(np.stack([eligible, before, after]), axis=1, return_inverse=True)
    values = [_expected(*(int(number) for number in cell)) for cell in cells.T]
    return np.array(values, dtype=np.float64)[place.ravel()]


@lru_cache(maxsize=1 << 16)
def _expected(eligible: int, before: int, after: int) -> float:
    if before + after == 0:
        return float("nan")
    shared = np.arange(max(0, before + after - eligible), min(before, after) + 1)
    share = hypergeom.pmf(shared, eligible, before, after)
    return float((share * shared / (before + after - shared)).sum() / share.sum())
