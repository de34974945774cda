"""Intervals that stay where a quantity can be: Student's t on a log or logit scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
#: Least and greatest value that a quantity can take: of all columns, or one each.
Range = tuple[ArrayLike, ArrayLike]

_Pair = tuple[Array, Array]

ANY: Range = (-np.inf, np.inf)
SHARE: Range = (0.0, 1.0)
NOT_NEGATIVE: Range = (0.0, np.inf)
#: A difference of two shares, or a correlation.
CHANGE: Range = (-1.0, 1.0)

# Features are kept in single precision: what lies outside by so little is a value at the bound.
_ROUNDING = 1e-6
# exp of more, times a value, is not a number any longer.
_MOST = 600.0


def around(estimate: Array, error: Array, t: float | Array, within: Range = ANY) -> tuple[Array, Array]:
    """Bounds t standard errors from the estimate, on a scale on which the range has no ends.

    That is the value itself without a range, log(v - a) for v >= a, log(b - v) for v <= b, and their difference, the
    logit, for both (from -1 to 1 it is Fisher's z up to a factor). By the delta method a standard error there is one
    here times the scale's slope at the estimate. No mean of equally weighted values above a has a standard error beyond
    v - a; where another estimate has (a quantile at the bound itself, say), the slope says nothing of what is beyond,
    which is added to the bounds as it is, as far as the range goes.

    Args:
        estimate: The estimates, [columns].
        error: Their standard errors, [columns].
        t: Quantile of Student's t, of all columns or [columns].
        within: The range, of all columns or [columns]. An estimate beyond an end has shown that it is none.

    Returns:
        Lower and upper bounds, [columns], within the range and around the estimate; NaN where either is unknown.
    """
    least, most = _held(estimate, within)
    below, above = np.maximum(estimate - least, 0.0), np.maximum(most - estimate, 0.0)
    believed = np.minimum(error, np.minimum(below, above))
    beyond = np.asarray(t * (error - believed))
    low, high = _scaled(estimate, np.asarray(t * believed), (least, most), (below, above))
    low, high = np.maximum(low - beyond, least), np.minimum(high + beyond, most)
    unknown = np.isnan(estimate) | np.isnan(error)
    return (
        np.where(unknown, np.nan, np.minimum(low, estimate)),
        np.where(unknown, np.nan, np.maximum(high, estimate)),
    )


def _scaled(
    estimate: Array, reach: Array, ends: tuple[Array, Array], apart: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Bounds on the scale; at an end of the range, where the reach is 0, that end."""
    (least, most), (below, above) = ends, apart
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        steps = np.where(reach > 0, np.minimum(reach / below + reach / above, _MOST), 0.0)
        grown, shrunk = np.exp(steps), np.exp(-steps)
        width = below + above
        kinds = [np.isfinite(least) & np.isfinite(most), np.isfinite(least), np.isfinite(most)]
        lows = [
            estimate - below * above * (1 - shrunk) / (below * shrunk + above),
            least + below * shrunk,
            most - above * grown,
        ]
        highs = [
            estimate + below * above * (1 - shrunk) / (below + above * shrunk),
            least + below * grown,
            most - above * shrunk,
        ]
    exact = (reach == 0) | (width == 0)
    low = np.where(exact, estimate, np.select(kinds, lows, estimate - reach))
    high = np.where(exact, estimate, np.select(kinds, highs, estimate + reach))
    return low, high


def clipped(low: Array, high: Array, estimate: Array, within: Range) -> tuple[Array, Array]:
    """Bounds cut off at the range, which replicates of a linearised estimate can leave."""
    least, most = _held(estimate, within)
    return np.clip(low, least, most), np.clip(high, least, most)


def _held(estimate: Array, within: Range) -> tuple[Array, Array]:
    """The range of each column, without the end that its estimate lies beyond."""
    least, most = (np.broadcast_to(np.asarray(end, np.float64), estimate.shape) for end in within)
    slack = _ROUNDING * np.maximum(1.0, np.abs(estimate))
    return np.where(estimate < least - slack, -np.inf, least), np.where(estimate > most + slack, np.inf, most)
