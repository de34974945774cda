"""What a budget of its own for each query would save, by sample."""

from __future__ import annotations

import numpy as np

from indexscope.analysis.budget.curve import Curve, fixed
from indexscope.analysis.metrics.ratios import Cells
from indexscope.analysis.metrics.sums import Cell, Sums
from indexscope.analysis.statistics import ratio

METRIC = "adaptive_saving_95"


def linearised_saving(curve: Curve, keys: Cells, mass: Cells) -> Sums:
    """1 - A / F by sample and cell, so that it aggregates, pairs and resamples like a ratio of sums.

    A is the mean number of keys that each query needs to reach the target in the order of its index scores, and F the
    mean number that the smallest fixed k attends to which holds as much on average as those keys do. F depends on the
    curve's two points around k and on the recall to reach; a sample's numerator is w S + sum over these means x of
    dS/dx (X_i - x w_i), the first-order expansion around the dataset's sums (as for positional_bias). Summed over
    samples the second term vanishes.

    Args:
        curve: Recall and keys of fixed budgets.
        keys: Keys of the adaptive budget, cells in the curve's order.
        mass: What these keys hold, alike.
    """
    weight = keys.denominator
    total = curve.weight.sum(axis=0)
    recall = ratio(curve.recall.sum(axis=0), total[:, None])
    kept = ratio(curve.kept.sum(axis=0), total[:, None])
    wanted = np.minimum(mass.values, recall[:, -1])
    found = fixed(curve.k, recall, kept, wanted)
    adaptive, plain = keys.values, found.keys
    saving = 1.0 - adaptive / plain
    numerator = weight * saving
    at_upper, at_lower = found.upper, np.maximum(found.upper - 1, 0)
    column = np.arange(len(saving))
    step = recall[column, at_upper] - recall[column, at_lower]
    # Slope of the keys of a fixed budget by recall; a recall that one key reaches does not move them.
    slope = np.where(at_upper > 0, ratio(kept[column, at_upper] - kept[column, at_lower], step), 0.0)
    outer = adaptive / plain**2
    share = found.share
    parts = (
        (-1.0 / plain, keys.numerator, adaptive, weight),
        (outer * slope, mass.numerator, mass.values, weight),
        (-outer * slope * (1 - share), curve.recall[:, column, at_lower], recall[column, at_lower], curve.weight),
        (-outer * slope * share, curve.recall[:, column, at_upper], recall[column, at_upper], curve.weight),
        (outer * (1 - share), curve.kept[:, column, at_lower], kept[column, at_lower], curve.weight),
        (outer * share, curve.kept[:, column, at_upper], kept[column, at_upper], curve.weight),
    )
    for gradient, sums, mean, weights in parts:
        numerator = numerator + gradient * (sums - mean * weights)
    known = np.isfinite(saving)
    columns: tuple[Cell, ...] = tuple((METRIC, layer) for layer in keys.groups["layer"].to_list())
    return Sums(keys.samples, columns, np.where(known, numerator, 0.0), np.where(known, weight, 0.0))
