"""The declared range of a metric as numbers."""

from __future__ import annotations

import math
import re

_WORDS = {
    "": (-math.inf, math.inf),
    "any real number": (-math.inf, math.inf),
    "above 0, below 1": (0.0, 1.0),
    "above 0, at most 1": (0.0, 1.0),
}


def bounds(text: str, longest: float = math.inf) -> tuple[float, float]:
    """Least and greatest value of a declared range.

    Args:
        text: `Metric.range`.
        longest: The most keys n_t that a query has; without it a bound that depends on n_t is the widest there is.

    Raises:
        ValueError: The text is none of the forms that ranges are declared in.

    >>> bounds("0 to 1"), bounds("≥ 1"), bounds("≤ 1"), bounds("1 to n_t")
    ((0.0, 1.0), (1.0, inf), (-inf, 1.0), (1.0, inf))
    >>> bounds("1/n_t to 1", 8)
    (0.125, 1.0)
    """
    if text in _WORDS:
        return _WORDS[text]
    if found := re.fullmatch(r"[≥>] (-?[\d.]+)", text):
        return float(found[1]), math.inf
    if found := re.fullmatch(r"≤ (-?[\d.]+)", text):
        return -math.inf, float(found[1])
    named = {
        "ln n_t": math.log(longest),
        "n_t": longest,
        "n_t - 1": longest - 1,
        "1/n_t": 1 / longest,
        # Set by the study or the model, and not known here.
        "k_t": longest,
        "the number of indexer heads": math.inf,
        "clustering.max_clusters, or as set": math.inf,
    }
    low, _, high = text.partition(" to ")
    return float(named.get(low, low)), float(named.get(high, high))
