"""A budget of keys spread over the layers where it holds most: water-filling by marginal gain."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from indexscope.analysis.statistics import Array

Curves = Mapping[int, tuple[Array, Array]]
"""Layer to budgets (keys, increasing from above 0) and the recall of each."""


def envelope(k: Array, recall: Array) -> tuple[Array, Array]:
    """The least concave curve on or above the points, from (0, 0); equal to the curve itself where it is concave.

    >>> [part.tolist() for part in envelope(np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.6, 0.7]))]
    [[0.0, 2.0, 3.0], [0.0, 0.6, 0.7]]
    """
    hull: list[tuple[float, float]] = []
    for point in [(0.0, 0.0), *zip(k.tolist(), recall.tolist(), strict=True)]:
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array([x for x, _ in hull]), np.array([y for _, y in hull])


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / (other[0] - one[0])


def allocate(curves: Curves, total: int, enough: float = math.inf) -> dict[int, int]:
    """Budgets of the layers that add up to at most ``total`` and hold most recall, summed over the layers.

    Segments of the curves' concave envelopes are filled by falling slope (Fox 1966, "Discrete optimization via marginal
    analysis"): exact where recall is concave and linear between the given budgets. Layers start with one key each.

    Args:
        curves: Of every layer.
        total: Keys of all layers together.
        enough: Stop as soon as the summed recall reaches this.

    Returns:
        Keys by layer, at least 1.
    """
    budget = dict.fromkeys(curves, 1)
    hulls = {layer: envelope(*curve) for layer, curve in curves.items()}
    segments = []
    for layer, (k, recall) in hulls.items():
        for place in range(len(k) - 1):
            start, end = max(k[place], 1.0), k[place + 1]
            gain = (recall[place + 1] - recall[place]) / (k[place + 1] - k[place])
            if end > start and gain > 0:
                segments.append((-gain, layer, int(end - start)))
    left = total - len(curves)
    held = sum(float(np.interp(1.0, *hull)) for hull in hulls.values())
    for slope, layer, size in sorted(segments):
        wanted = math.ceil((enough - held) / -slope - 1e-9) if math.isfinite(enough) else size
        taken = max(0, min(size, left, wanted))
        budget[layer] += taken
        left -= taken
        held -= taken * slope
        if left <= 0 or taken < size:
            break
    return budget


def recall_of(curves: Curves, budget: Mapping[int, int]) -> float:
    """Mean recall over the layers, linear between the budgets that were measured."""
    return float(np.mean([recall_at(curves[layer], keys) for layer, keys in budget.items()]))


def recall_at(curve: tuple[Array, Array], keys: float) -> float:
    """Recall of one layer at a budget, from (0, 0) and flat beyond the last."""
    k, recall = curve
    return float(np.interp(keys, np.concatenate([[0.0], k]), np.concatenate([[0.0], recall])))
