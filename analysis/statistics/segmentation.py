"""At which places the level of a series changes: exact least-squares segmentation, and how sure the places are.

A series of T values is cut into stretches of constant level, each of two values at least, so that the squares around
the levels plus a penalty for each cut are least (Jackson et al. 2005, An Algorithm for Optimal Partitioning of Data on
an Interval; Yao 1988, Estimating the Number of Change-Points via Schwarz' Criterion). The penalty is (4 + 40 / T) log T
noise variances, since the noise of a few values is itself uncertain. The noise is the larger of two estimates: from
second differences, which neither levels nor slow drifts enter (median absolute deviation), and from the uncertainty of
the values themselves.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from indexscope.analysis.statistics.resampling import Array

#: Values that a stretch has at least: one alone is an outlier.
SHORTEST = 2
#: Fewest values that are cut at all: of fewer, half of the second differences or more would be of a single change.
FEWEST = 7
#: Penalty for a cut, in noise variances times log T, of a long series, and what is added to it over T: a series of
#: noise is cut in less than one case of twenty, whatever its length.
STRICTNESS, STRICTER = 4.0, 40.0
#: Share of the largest value that is rounding, in values and in differences of sums of their squares.
_ROUNDING = 1e-7
#: Costs that are held at once, when resamples are cut.
_AT_ONCE = 4_000_000


def noise_variance(values: Array, replicates: Array) -> float:
    """Variance of the noise of a series around its levels.

    Args:
        values: The series, [T].
        replicates: The series in every resample, [resamples, T], paired along the series: what all values have in
            common is no noise.
    """
    second = np.diff(values, 2)
    wander = (1.4826 * float(np.median(np.abs(second))) / np.sqrt(6.0)) if len(second) else 0.0
    steps = np.diff(replicates, axis=1)
    # What two neighbours' difference is uncertain by is the noise of both.
    sampling = float(np.sqrt(np.mean(np.nanvar(steps, axis=0)) / 2)) if steps.size else 0.0
    floor = _ROUNDING * float(np.max(np.abs(values), initial=0.0))
    return max(wander, sampling, floor) ** 2


def penalty_for(length: int) -> float:
    """Penalty for a cut of a series of so many values, in noise variances."""
    return (STRICTNESS + STRICTER / length) * float(np.log(length))


def change_points(values: Array, variance: float) -> list[int]:
    """Where the level changes: the index of the first value of every stretch but the first.

    Args:
        values: The series, [T], without NaN.
        variance: Variance of the noise.

    >>> import numpy as np
    >>> change_points(np.array([1.0, 1.1, 0.9, 1.0, 3.0, 3.1, 2.9, 3.0]), 0.01)
    [4]
    """
    length = len(values)
    if length < FEWEST or variance <= 0:
        return []
    costs = _costs(values[None])[0]
    penalty = penalty_for(length) * variance
    best, last = np.full(length + 1, np.inf), np.zeros(length + 1, np.intp)
    best[0] = -penalty
    for end in range(SHORTEST, length + 1):
        totals = best[: end - SHORTEST + 1] + costs[: end - SHORTEST + 1, end] + penalty
        last[end] = int(np.argmin(totals))
        best[end] = totals[last[end]]
    found, end = [], int(last[length])
    while end > 0:
        found.append(end)
        end = int(last[end])
    return found[::-1]


def places_in_resamples(replicates: Array, changes: int) -> NDArray[np.intp]:
    """Where as many changes lie in every resample: the best cut of each into that many stretches and one more.

    Args:
        replicates: The series in every resample, [resamples, T], without NaN.
        changes: Number of changes, 1 at least.

    Returns:
        [resamples, changes], in order.
    """
    length = replicates.shape[1]
    block = max(1, _AT_ONCE // (length + 1) ** 2)
    parts = [_cut(replicates[start : start + block], changes) for start in range(0, len(replicates), block)]
    return np.concatenate([np.zeros((0, changes), np.intp), *parts])


def _cut(series: Array, changes: int) -> NDArray[np.intp]:
    costs = _costs(series)
    length = series.shape[1]
    # Rows are the ends of the stretches so far: at first, of the one that begins the series.
    best = costs[:, 0, :]
    chosen: list[NDArray[np.intp]] = []
    for _ in range(changes):
        totals = best[:, :, None] + costs
        chosen.append(np.argmin(totals, axis=1))
        best = np.min(totals, axis=1)
    places = np.zeros((len(series), changes), np.intp)
    end = np.full(len(series), length, np.intp)
    for number in reversed(range(changes)):
        end = chosen[number][np.arange(len(series)), end]
        places[:, number] = end
    return places


def _costs(series: Array) -> Array:
    """Squares around the mean of every stretch [start, end), [series, T + 1, T + 1]; infinite for one too short."""
    count, length = series.shape
    centred = series - series.mean(axis=1, keepdims=True)  # squares of what is far from 0 would cancel
    zero = np.zeros((count, 1))
    sums = np.concatenate([zero, np.cumsum(centred, axis=1)], axis=1)
    squares = np.concatenate([zero, np.cumsum(centred**2, axis=1)], axis=1)
    sizes = np.arange(length + 1)[None, :] - np.arange(length + 1)[:, None]
    inside = sizes >= SHORTEST
    total = sums[:, None, :] - sums[:, :, None]
    spread = squares[:, None, :] - squares[:, :, None] - total**2 / np.where(inside, sizes, 1)
    return np.where(inside, np.maximum(spread, 0.0), np.inf)
