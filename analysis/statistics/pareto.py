"""The Pareto front: what nothing else beats in cost and in quality at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pareto(cost: ArrayLike, quality: ArrayLike) -> NDArray[np.bool_]:
    """Whether each point is on the front: no other is at most as costly and at least as good, and better in one.

    Args:
        cost: Lower is better, [points].
        quality: Higher is better, [points].

    Returns:
        [points]; False where cost or quality is NaN. Equal points are on the front together.

    >>> pareto([1, 2, 2, 3], [0.5, 0.9, 0.8, 0.9]).tolist()
    [True, True, False, False]
    """
    costs, qualities = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    front = np.zeros(costs.shape, dtype=bool)
    known = np.flatnonzero(~np.isnan(costs) & ~np.isnan(qualities))
    best, best_cost = -np.inf, np.nan
    for point in known[np.lexsort((-qualities[known], costs[known]))]:
        if qualities[point] > best:
            best, best_cost = qualities[point], costs[point]
            front[point] = True
        else:
            front[point] = qualities[point] == best and costs[point] == best_cost
    return front
