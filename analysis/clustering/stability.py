"""How far the clusters depend on the seed and on the samples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from indexscope.analysis.statistics import Array

FITS = 5
STABILITY = ("seeds_mean", "seeds_min", "halves_mean", "halves_min")


def stability(rows: Array, samples: NDArray[np.int64], k: int, seed: int) -> dict[str, float | None]:
    """Adjusted Rand index between fits that should agree (Hubert and Arabie 1985), by what sets them apart.

    Args:
        rows: [rows, directions].
        samples: Sample of each row.
        k: Number of clusters.
        seed: Where the seeds start.

    Returns:
        seeds_mean and seeds_min over all pairs of five fits with other seeds; halves_mean and halves_min over five
        random splits of the samples into two halves: k-means on either half groups all rows. None for k = 1, and for
        halves that hold fewer distinct rows than clusters.
    """
    if k < 2:
        return dict.fromkeys(STABILITY)
    labels = [_fitted(rows, k, seed + 1 + number).predict(rows) for number in range(FITS)]
    seeds = [adjusted_rand_score(one, other) for one, other in combinations(labels, 2)]
    random = np.random.default_rng(seed)
    ids = np.unique(samples)
    halves = []
    for _ in range(FITS):
        first = np.isin(samples, random.permutation(ids)[: len(ids) // 2])
        parts = (rows[first], rows[~first])
        if all(len(np.unique(part, axis=0)) >= k for part in parts):
            halves.append(adjusted_rand_score(*(_fitted(part, k, seed).predict(rows) for part in parts)))
    return {
        "seeds_mean": float(np.mean(seeds)),
        "seeds_min": float(min(seeds)),
        "halves_mean": float(np.mean(halves)) if halves else None,
        "halves_min": float(min(halves)) if halves else None,
    }


def _fitted(rows: Array, k: int, seed: int) -> KMeans:
    return KMeans(k, n_init=2, random_state=seed % 2**32).fit(rows)
