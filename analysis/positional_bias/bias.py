"""How far selections by distance and age are from chance and from the attention, as numbers and by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from indexscope.analysis.positional_bias.tally import OLDEST_BIN, RECENT_BINS, Crossed
from indexscope.analysis.positional_bias.totals import Totals
from indexscope.analysis.statistics.resampling import Array, ratio

# A bin that is never selected has log2 lift -inf; a factor of 64 either way is as good as never.
CAP = 6.0
Parts = dict[str, tuple[Array, Array]]


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
    height = np.minimum(np.abs(_log_lift(selections, expected)), CAP)
    return ratio((expected * height).sum(axis=-1), expected.sum(axis=-1))


@dataclass(frozen=True)
class Pair:
    """Counts of one kind and what chance gives: by sample [samples, layers, bins], and in all [layers, bins]."""

    own: Array
    own_expected: Array
    total: Array
    total_expected: Array

    @property
    def log_lift(self) -> Array:
        """log2 of the dataset's lift, -inf for never; [layers, bins]."""
        return _log_lift(self.total, self.total_expected)

    @property
    def moves(self) -> Array:
        """By how much each sample moves the natural logarithm of the dataset's lift; [samples, layers, bins]."""
        return _share(self.own, self.total) - _share(self.own_expected, self.total_expected)


def linearised(pair: Pair, other: Pair | None = None) -> Array:
    """Numerators by sample of expected-weighted mean |log2 lift|, or of |log2(lift / other lift)|, bin by bin.

    Such a bias g of sums over samples is not a ratio of sums. Its first-order expansion around the dataset's sums
    is: with x_b = log2(S_b / E_b) and sample i's own S_ib, E_ib, the sample's numerator is
    sum_b [E_ib |x_b| + E_b sign(x_b) (S_ib / S_b - E_ib / E_b) / ln 2] and its denominator E_i. Summed over samples the
    second term vanishes and the ratio is g exactly; across samples it carries each sample's influence on g (the
    infinitesimal jackknife). Over all layers the cells are (layer, bin), so the parts of the layers simply add.

    Returns:
        [samples, layers, bins].
    """
    log, moves = pair.log_lift, pair.moves
    if other is not None:
        with np.errstate(invalid="ignore"):
            log = np.nan_to_num(log - other.log_lift, nan=0.0, posinf=np.inf, neginf=-np.inf)
        moves = moves - other.moves
    height = np.minimum(np.abs(log), CAP)
    slope = np.where(height < CAP, np.sign(log), 0.0) * pair.total_expected / np.log(2)
    return np.asarray(pair.own_expected * height + slope * moves)


def bias_parts(crossed: Crossed, total: Totals) -> Parts:
    """Numerators and denominators by sample and layer of everything that is told of distances.

    The bias is over parts of E_t: the distance bins within 32 keys, and of each one beyond the oldest tenth and the
    other keys. So its terms are those of recent keys, of the oldest and of the others, and add up exactly.

    Args:
        crossed: A block of samples.
        total: The dataset's parts.
    """
    own, oldest = crossed.along("parts"), crossed.along("relative")
    chosen = Pair(own.selections, own.expected, total.selections, total.expected)
    attended = Pair(own.attention, own.attention_expected, total.attention, total.attention_expected)
    weight, attention_weight = own.expected.sum(axis=-1), own.attention_expected.sum(axis=-1)
    near, old = own.bins // 2 <= RECENT_BINS, own.bins % 2 == 1
    bits = linearised(chosen)

    def lift(sums: Array, expected: Array, among: Any) -> tuple[Array, Array]:
        return sums[..., among].sum(axis=-1), expected[..., among].sum(axis=-1)

    tenth = [OLDEST_BIN]
    return {
        "positional_bias": (bits.sum(axis=-1), weight),
        "recency_bias": (bits[..., near].sum(axis=-1), weight),
        "oldest_bias": (bits[..., old].sum(axis=-1), weight),
        "other_bias": (bits[..., ~near & ~old].sum(axis=-1), weight),
        "excess_bias": (linearised(chosen, attended).sum(axis=-1), weight),
        "recency_lift": lift(own.selections, own.expected, near),
        "oldest_lift": lift(oldest.selections, oldest.expected, tenth),
        "attention_positional_bias": (linearised(attended).sum(axis=-1), attention_weight),
        "attention_recency_lift": lift(own.attention, own.attention_expected, near),
        "attention_oldest_lift": lift(oldest.attention, oldest.attention_expected, tenth),
    }


def _log_lift(selections: Array, expected: Array) -> Array:
    """log2 lift, -inf for never; 0 where nothing is expected, so that the bin does not count."""
    with np.errstate(divide="ignore"):
        return np.log2(np.nan_to_num(ratio(selections, expected), nan=1.0))


def _share(own: Array, total: Array) -> Array:
    return np.nan_to_num(ratio(own, np.broadcast_to(total, own.shape)))
