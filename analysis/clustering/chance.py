"""What attention that knows of no place would show of a pattern: uniform causal attention, and random attention.

Uniform causal attention gives each of the n_t eligible keys 1 / n_t, so that a set A of keys gets ν = mean over queries
of |E_t ∩ A| / n_t; the table of attention holds ν for the queries that were measured (`uniform_key` and so on). Random
attention has the same mean, but few queries leave it some way off, the further the more of a query's attention is on
one key. With weights exchangeable between the keys, the variance of the attention on A is, for sum of p² = c,
ν (1 - ν) (c - 1/n) / (1 - 1/n); c is at most the largest weight, whose mean stands for it.
"""

from __future__ import annotations

import polars as pl

#: Standard errors that random attention is given beyond its mean.
ERRORS = 2.0
#: Where chance alone reaches so much, nothing is told by more.
CERTAIN = 0.99
#: Queries of the features of the attention and of those of the map's shape; columns or diagonals.
QUERIES, MAPPED, KEYS = pl.col("queries"), pl.col("mapped_queries"), pl.col("keys")
KEY, LARGEST = pl.col("uniform_key"), pl.col("max_weight")


def on_keys(uniform: pl.Expr) -> pl.Expr:
    """What random attention may well have on a set of keys: ν + 2 sqrt(ν (1 - ν) (m - 1/n) / Q) + 2 (m - 1/n) / (3 Q).

    Of Q queries with largest weight m; the last term is Bernstein's, and counts where there are few of them.

    Args:
        uniform: ν, the same of uniform attention.
    """
    sharp = (LARGEST - KEY).clip(0.0) / QUERIES
    return uniform + ERRORS * (uniform * (1 - uniform) * sharp).clip(0.0).sqrt() + ERRORS**2 / 6 * sharp


def on_best(count: int) -> pl.Expr:
    """What the fullest columns or diagonals of random attention hold at most on average, [as many as are counted].

    Of K means over Q queries, each of mean ν = mean of 1/n_t, with variance ν (m - ν) / Q and terms of at most m - ν
    above ν, the mean of the largest r is at most ν + sqrt(2 ν (m - ν) ln(K/r) / Q) + (m - ν) ln(K/r) / (3 Q) on
    average: Bernstein's inequality for maxima (Boucheron, Lugosi and Massart 2013, corollary 2.11).

    Args:
        count: r.
    """
    choice, sharp = (KEYS / count).log().clip(0.0), (LARGEST - KEY).clip(0.0) / MAPPED
    return count * (KEY + (2 * KEY * sharp * choice).sqrt() + sharp * choice / 3)


def nearness() -> pl.Expr:
    """How much nearer than uniform attention random attention may well be, as a share of the distance.

    Of one key drawn at random from n the distance has mean (n - 1) / 2 and variance (n² - 1) / 12, so that the mean
    over queries is off by about sqrt(m / (3 Q)) of itself; and Bernstein's term as in `on_keys`.
    """
    return ERRORS * (LARGEST / (3 * QUERIES)).sqrt() + ERRORS**2 / 6 * LARGEST / QUERIES


def beyond(value: pl.Expr, chance: pl.Expr, threshold: float) -> pl.Expr:
    """How far a share is above what the rule asks of it: chance, and the threshold's part of what chance leaves.

    Less than nothing where it falls short; all of -1 where chance leaves next to nothing.
    """
    needed = chance + threshold * (1 - chance)
    return pl.when(chance < CERTAIN).then(value - needed).otherwise(-1.0)
