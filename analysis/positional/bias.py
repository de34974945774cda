"""How far selections by distance are from chance, as one number and by sample."""

from __future__ import annotations

import numpy as np

from analysis.metrics.sums import Sums, layered
from analysis.positional.tally import Tally
from analysis.statistics import Array, ratio

# A bin that is never selected has log2 lift -inf; a factor of 64 either way is as good as never.
CAP = 6.0


def bias(selections: Array, expected: Array) -> Array:
    """Expected-weighted mean of |log2(selections / expected)| over the last axis, |log2| capped at 6.

    Args:
        selections: Selections by bin, [..., bins].
        expected: Expected selections by bin, same shape; bins with 0 do not count.

    Returns:
        [...]; 0 where every bin is selected as often as by chance, NaN where nothing is expected.

    >>> float(bias(np.array([2.0, 1.0]), np.array([1.0, 2.0])))
    1.0
    """
    return ratio((expected * _log_lift(selections, expected)).sum(axis=-1), expected.sum(axis=-1))


def linearised_bias(own: Tally) -> Sums:
    """positional_bias by sample and layer, so that it aggregates, pairs and resamples like a ratio of sums.

    The bias g(S, E) of sums over samples is not a ratio of sums. Its first-order expansion around the dataset's sums
    is: with f = |log2|, lift r_b = S_b / E_b, and sample i's own S_ib, E_ib, the sample's numerator is
    sum_b [E_ib f(r_b) + f'(r_b) (S_ib - r_b E_ib)] and its denominator E_i. Summed over samples the second term
    vanishes and the ratio is g exactly; across samples it carries each sample's influence on g (the infinitesimal
    jackknife). Over all layers the cells are (layer, bin), so the parts of the layers simply add.
    """
    total_s, total_e = own.selections.sum(axis=0), own.expected.sum(axis=0)
    lift = np.nan_to_num(ratio(total_s, total_e))
    height = _log_lift(total_s, total_e)
    free = (height < CAP) & (height > 0)
    slope = np.where(free, np.sign(lift - 1) / (np.log(2) * np.where(free, lift, 1.0)), 0.0)
    numerator = (own.expected * height + slope * (own.selections - lift * own.expected)).sum(axis=-1)
    return layered(own.samples, own.layers.tolist(), {"positional_bias": (numerator, own.expected.sum(axis=-1))})


def _log_lift(selections: Array, expected: Array) -> Array:
    """|log2 lift|, at most CAP; 0 where nothing is expected, so that the bin does not count."""
    lift = np.nan_to_num(ratio(selections, expected), nan=1.0)
    return np.abs(np.log2(np.clip(lift, 2.0**-CAP, 2.0**CAP)))
