"""What a paired difference amounts to beyond its interval: a p-value, an effect size, and what could be detected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, nctdtrinc, ndtri, stdtr, stdtrit

from indexscope.analysis.statistics.resampling import FEWEST_FOR_PERCENTILES, Array, expansion, ratio, standard_error

#: Probability with which the minimum detectable effect would be detected.
POWER = 0.8
#: Share of the resamples below which their number is too noisy; n = 8 needs 0.0058 for an interval of 95 %.
_RESOLVED = 0.005
_COLUMNS_AT_ONCE = 512


def p_values(estimate: Array, replicates: Array, n: NDArray[np.int64], slack: Array) -> Array:
    """Two-sided p-values that agree with ``interval``: p < 1 - c where the interval of coverage c leaves out the slack.

    From eight samples on they invert the expanded percentile interval, as far as intervals of 95 % and less need it.
    Where fewer than 1 in 200 resamples lie beyond zero, Student's t of the estimate over its standard error says how
    small p is: so few are a noisy count, and corrections for many metrics rest on small p. t never makes p larger than
    1 in 200 would. Below eight samples it is Student's t throughout.

    Args:
        estimate: Differences, [columns].
        replicates: Their bootstrap replicates, [resamples, columns]; NaN is left out.
        n: Samples with weight, [columns].
        slack: What counts as zero by rounding, [columns], on either side.

    Returns:
        [columns]; NaN where n < 2 or the estimate is unknown.
    """
    freedom = np.maximum(n - 1, 1)
    error = standard_error(replicates, n)
    excess = np.maximum(np.abs(estimate) - slack, 0.0)
    certain = np.where(excess > 0, np.inf, 0.0)  # without any spread a difference is there or is not
    t = np.where(error > 0, ratio(excess, error), np.where(error == 0, certain, np.nan))
    by_t = 2 * stdtr(freedom, -t)
    inverted = np.ones(len(estimate))
    for start in range(0, len(estimate), _COLUMNS_AT_ONCE):
        own = slice(start, start + _COLUMNS_AT_ONCE)
        for side in (replicates[:, own], -replicates[:, own]):
            inverted[own] = np.minimum(inverted[own], _tail(side, slack[own], freedom[own], by_t[own]))
    p = np.where(n < FEWEST_FOR_PERCENTILES, by_t, inverted)
    return np.where((n < 2) | np.isnan(estimate) | np.isnan(error), np.nan, p)


def _tail(replicates: Array, bound: Array, freedom: NDArray[np.int64], by_t: Array) -> Array:
    """Twice the level at which the lower end of the interval reaches the bound, as a level of Student's t."""
    known = ~np.isnan(replicates)
    count = known.sum(axis=0)
    under = known & (replicates <= bound)
    number = under.sum(axis=0)
    last = np.where(under, replicates, -np.inf).max(axis=0, initial=-np.inf)
    first = np.where(known & ~under, replicates, np.inf).min(axis=0, initial=np.inf)
    inner = (number > 0) & (number < count)
    gap, step = np.where(inner, bound - last, 0.0), np.where(inner, first - last, 1.0)
    # The inverse of the quantile that interpolates between order statistics, which `interval` takes.
    level = ratio(number - 1 + ratio(gap, step), np.maximum(count - 1, 0))
    least = np.maximum(ratio(1.0, count), _RESOLVED)
    resolved = np.where(number >= count, 1.0, np.maximum(level, least))
    p = 2 * stdtr(freedom, ndtri(resolved) / expansion(freedom + 1))
    return np.asarray(np.where((number == 0) | (level < least), np.minimum(p, by_t), p))


def effect_sizes(estimate: Array, error: Array, n: NDArray[np.int64], slack: Array) -> Array:
    """Standardised paired differences: difference over the standard deviation of a sample's share in it.

    That standard deviation is the standard error x sqrt(n). With equal weights it is the standard deviation of the
    samples' differences, so that this is Cohen's d_z, here with Hedges' correction for small samples
    J = Gamma(f / 2) / (sqrt(f / 2) Gamma((f - 1) / 2)), f = n - 1 (Hedges 1981, Journal of Educational Statistics 6,
    equation 6e; d_z: Lakens 2013, Frontiers in Psychology 4, 863).

    Args:
        estimate: Differences, [columns].
        error: Their standard errors, [columns].
        n: Samples with weight, [columns].
        slack: What counts as zero by rounding, [columns].

    Returns:
        [columns], without unit; NaN with fewer than three samples, and where samples differ by no more than rounding.
    """
    freedom = np.maximum(n - 1, 2) / 2
    correction = np.exp(gammaln(freedom) - gammaln(freedom - 0.5)) / np.sqrt(freedom)
    spread = error * np.sqrt(n)
    defined = (n >= 3) & (spread > slack)
    return np.asarray(ratio(np.where(defined, correction * estimate, np.nan), np.where(defined, spread, 1.0)))


def detectable(error: Array, n: NDArray[np.int64], confidence: float) -> Array:
    """Minimum detectable effects: true differences that a two-sided t test finds with a probability of 80 %.

    They are the standard error times the noncentrality of Student's t that exceeds its own critical value with that
    probability (Cohen 1988, Statistical Power Analysis, section 2.2; about 2.8 standard errors at 95 %).

    Args:
        error: Standard errors of the paired differences, [columns].
        n: Samples with weight, [columns].
        confidence: 1 - the level of the test.

    Returns:
        [columns], in the unit of the differences; NaN where n < 2.
    """
    freedom = np.maximum(n - 1, 1).astype(np.float64)
    factor = nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, 0.5 + confidence / 2))
    return np.asarray(np.where(n >= 2, factor * error, np.nan))
