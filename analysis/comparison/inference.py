"""What a paired difference amounts to: its interval, a p-value, an effect size, and what could be detected."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln, nctdtrinc, stdtr, stdtrit

from indexscope.analysis.statistics.resampling import Array, ratio, standard_error

#: Probability with which the minimum detectable effect would be detected.
POWER = 0.8
#: Below this skewness the correction for it is linear to twelve digits.
_STRAIGHT = 1e-6


def effective(weights: Array) -> Array:
    """Samples of equal weight that would say as much: (sum of weights)^2 / sum of squares (Kish 1965, section 11.7).

    Args:
        weights: [samples, columns], not negative.

    Returns:
        [columns], from 1 to the number of samples with weight; 0 without any.
    """
    return np.nan_to_num(ratio(weights.sum(axis=0) ** 2, (weights**2).sum(axis=0)))


def difference_interval(estimate: Array, replicates: Array, n: Array, confidence: float) -> tuple[Array, Array]:
    """Confidence bounds of differences, as wide as the wider of two at either end.

    One is Student's t with the bootstrap's standard error. The other corrects it for skewness by Hall's monotone
    transformation of t, g(t) = t + a t^2 / 3 + a^2 t^3 / 27 + a / 6, a the skewness of the replicates (Hall 1992,
    Journal of the Royal Statistical Society B 54, 221): few samples of which a rare one carries the difference show too
    little of it, on one side. Alone it covers too little where tails are heavy on both; t alone where they are on one.

    Args:
        estimate: Differences, [columns].
        replicates: Their bootstrap replicates, [resamples, columns]; NaN is left out.
        n: Effective samples, [columns].
        confidence: Coverage.

    Returns:
        Lower and upper bounds, [columns]; NaN where n < 2 or the estimate is unknown.
    """
    error = np.where(np.isnan(estimate), np.nan, standard_error(replicates, n))
    skewness = _skewness(replicates, n)
    t = stdtrit(np.maximum(n - 1, 1.0), 0.5 + confidence / 2)
    most, least = np.maximum(t, _unskewed(t, skewness)), np.minimum(-t, _unskewed(-t, skewness))
    return estimate - most * error, estimate - least * error


def p_values(estimate: Array, replicates: Array, n: Array, slack: Array) -> Array:
    """Two-sided p-values that agree with ``difference_interval``: p < 1 - c where that leaves out the slack.

    Args:
        estimate: Differences, [columns].
        replicates: Their bootstrap replicates, [resamples, columns]; NaN is left out.
        n: Effective samples, [columns].
        slack: What counts as zero by rounding, [columns], on either side.

    Returns:
        [columns]; NaN where n < 2 or the estimate is unknown.
    """
    error = standard_error(replicates, n)
    excess = np.sign(estimate) * np.maximum(np.abs(estimate) - slack, 0.0)
    certain = np.where(excess != 0, np.copysign(np.inf, excess), 0.0)  # without any spread it is there or is not
    t = np.where(error > 0, ratio(excess, error), np.where(error == 0, certain, np.nan))
    skewness = np.where(error > 0, _skewness(replicates, n), 0.0)
    # A difference on one side of zero, of which the correction makes one on the other, is none.
    corrected = np.where(
        error > 0, np.maximum(np.sign(t) * _skewed(np.where(error > 0, t, 0.0), skewness), 0.0), np.abs(t)
    )
    p = 2 * stdtr(np.maximum(n - 1, 1.0), -np.minimum(np.abs(t), corrected))
    return np.where((n < 2) | np.isnan(estimate) | np.isnan(error), np.nan, p)


def _skewness(replicates: Array, n: Array) -> Array:
    """Skewness of each column's replicates, by the correction for small samples of Joanes & Gill (1998, equation 2)."""
    known = ~np.isnan(replicates)
    count = known.sum(axis=0)
    mean = ratio(np.where(known, replicates, 0.0).sum(axis=0), count)
    apart = np.where(known, replicates - mean, 0.0)
    second, third = (ratio((apart**power).sum(axis=0), count) for power in (2, 3))
    size = np.maximum(n, 3.0)
    # Equal values differ in their last digits, which have a skewness too.
    spread = second > (1e-12 * np.abs(mean)) ** 2
    found = ratio(np.where(spread, third, 0.0), np.where(spread, second, 1.0) ** 1.5)
    return np.asarray(np.nan_to_num(found) * np.sqrt(size * (size - 1)) / (size - 2))


def _skewed(t: Array, a: Array) -> Array:
    """Hall's transformation of t."""
    return np.asarray(t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6)


def _unskewed(g: Array, a: Array) -> Array:
    """The t that it makes g of."""
    straight = np.abs(a) < _STRAIGHT
    safe = np.where(straight, 1.0, a)
    return np.asarray(np.where(straight, g - a / 6, 3 / safe * (np.cbrt(1 + safe * (g - safe / 6)) - 1)))


def effect_sizes(estimate: Array, error: Array, n: Array, slack: Array) -> Array:
    """Standardised paired differences: difference over the standard deviation of a sample's share in it.

    That standard deviation is the standard error x sqrt(n). With equal weights it is the standard deviation of the
    samples' differences, so that this is Cohen's d_z, here with Hedges' correction for small samples
    J = Gamma(f / 2) / (sqrt(f / 2) Gamma((f - 1) / 2)), f = n - 1 (Hedges 1981, Journal of Educational Statistics 6,
    equation 6e; d_z: Lakens 2013, Frontiers in Psychology 4, 863).

    Args:
        estimate: Differences, [columns].
        error: Their standard errors, [columns].
        n: Effective samples, [columns].
        slack: What counts as zero by rounding, [columns].

    Returns:
        [columns], without unit; NaN with fewer than three samples, and where samples differ by no more than rounding.
    """
    freedom = np.maximum(n - 1, 2) / 2
    correction = np.exp(gammaln(freedom) - gammaln(freedom - 0.5)) / np.sqrt(freedom)
    spread = error * np.sqrt(n)
    defined = (n >= 3) & (spread > slack)
    return np.asarray(ratio(np.where(defined, correction * estimate, np.nan), np.where(defined, spread, 1.0)))


def detectable(error: Array, n: Array, confidence: float) -> Array:
    """Minimum detectable effects: true differences that a two-sided t test finds with a probability of 80 %.

    They are the standard error times the noncentrality of Student's t that exceeds its own critical value with that
    probability (Cohen 1988, Statistical Power Analysis, section 2.2; about 2.8 standard errors at 95 %).

    Args:
        error: Standard errors of the paired differences, [columns].
        n: Effective samples, [columns].
        confidence: 1 - the level of the test.

    Returns:
        [columns], in the unit of the differences; NaN where n < 2.
    """
    freedom = np.maximum(n - 1, 1.0)
    factor = nctdtrinc(freedom, 1 - POWER, stdtrit(freedom, 0.5 + confidence / 2))
    return np.asarray(np.where(n >= 2, factor * error, np.nan))
