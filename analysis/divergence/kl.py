"""The Kullback-Leibler divergence of distributions of which only the likeliest tokens are known."""

from __future__ import annotations

import numpy as np

from indexscope.analysis.predictions import Array, Distributions, Integers, row_sums


def divergences(base: Distributions, other: Distributions) -> tuple[Array, Array]:
    """KL(base || other) of each pair of distributions over the tokens that are kept of both, and one for all others.

    Merging outcomes never adds divergence (the data-processing inequality: Cover & Thomas 2006, Elements of Information
    Theory, section 2.8), so this is a lower bound of the divergence over the whole vocabulary. Where all tokens are
    kept, nothing is merged and it is that divergence.

    Args:
        base: Distributions of the baseline, [Q].
        other: Those of the candidate after the same tokens, over the same vocabulary, [Q].

    Returns:
        The divergences in nats, [Q], at least 0, NaN where nothing is kept; and the baseline's probability of what was
        merged, [Q], 0 where the divergence is exact.
    """
    one, two = _shared(base, other)
    queries = len(base.counts)
    row = np.repeat(np.arange(queries), base.counts)[one]
    log_p, log_q = base.log_probs[one], other.log_probs[two]
    p = np.exp(log_p)
    with np.errstate(invalid="ignore"):
        terms = np.where(p > 0, p * (log_p - log_q), 0.0)
    kl = np.bincount(row, weights=terms, minlength=queries).astype(np.float64)
    merged = _merged(base, p, row), _merged(other, np.exp(log_q), row)
    some = merged[0] > 0
    with np.errstate(divide="ignore"):
        kl[some] += merged[0][some] * np.log(merged[0][some] / merged[1][some])
    nothing = (base.counts == 0) | (other.counts == 0)
    # Rounding may leave a divergence of nothing at a hair below zero.
    return np.where(nothing, np.nan, np.maximum(kl, 0.0)), np.where(nothing, np.nan, merged[0])


def _shared(base: Distributions, other: Distributions) -> tuple[Integers, Integers]:
    """Places of the tokens that are kept of both distributions of a pair, in either list, in order."""
    if np.array_equal(base.counts, other.counts) and np.array_equal(base.tokens, other.tokens):
        everything = np.arange(len(base.tokens))
        return everything, everything
    size = 1 + max(int(part.tokens.max(initial=0)) for part in (base, other))
    ours, theirs = (np.repeat(np.arange(len(part.counts)), part.counts) * size + part.tokens for part in (base, other))
    _, one, two = np.intersect1d(ours, theirs, assume_unique=True, return_indices=True)
    return one.astype(np.int64), two.astype(np.int64)


def _merged(part: Distributions, shared: Array, row: Integers) -> Array:
    """Probability of all but the shared tokens; exactly the rest where every kept token is shared."""
    kept = row_sums(np.exp(part.log_probs), part.counts)
    own = np.bincount(row, weights=shared, minlength=len(part.counts))
    everything = np.bincount(row, minlength=len(part.counts)) == part.counts
    return part.rest + np.where(everything, 0.0, np.maximum(kept - own, 0.0))
