"""Two models' predictions side by side: one row for each sampled query of both."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.output_divergence.predictions import LOGITS, Array, Distributions, Integers, row_sums, unpacked
from indexscope.errors import IndexscopeError

ROW = ("sample", "query")
PAIRS: dict[str, type[pl.DataType]] = {
    "sample": pl.Int32,
    "query": pl.Int32,
    "bucket": pl.Int8,
    "weight": pl.Float64,
    "token_class": pl.String,
    "baseline_nll": pl.Float64,
    "nll": pl.Float64,
    "change": pl.Float64,
    "same": pl.Boolean,
    "kl": pl.Float64,
    "merged": pl.Float64,
}


def pairs(baseline: pl.DataFrame, candidate: pl.DataFrame, where: str) -> pl.DataFrame:
    """What every query says of the two models.

    Args:
        baseline: The baseline's table ``logits`` of the close-up.
        candidate: The candidate's.
        where: What an error names.

    Returns:
        sample, query, bucket, weight, token_class (of the true next token), baseline_nll and nll, change (probability
        of the true next token, candidate less baseline), same (whether the likeliest token is), kl (in nats) and
        merged (the baseline's probability of tokens that are not told apart), by sample and query. After a sample's
        last token all that needs the next one is null; kl and merged are where no probabilities are stored, and where
        the vocabularies differ in size.

    Raises:
        IndexscopeError: The close-ups are not of the same queries of the same tokens, or a table is damaged.
    """
    _check(baseline, candidate, where)
    one, other = (frame.sort(ROW) for frame in (baseline, candidate))
    kl, merged = _divergences(one, other)
    joined = pl.DataFrame(
        {
            **{name: one[name] for name in ("sample", "query", "bucket", "weight", "token_class")},
            "baseline_nll": one["nll"],
            "nll": other["nll"],
            "change": (-other["nll"]).exp() - (-one["nll"]).exp(),
            "same": one["top_token"] == other["top_token"],
            "kl": kl,
            "merged": merged,
        },
        schema_overrides=PAIRS,
    )
    return joined.with_columns(pl.col("kl", "merged").fill_nan(None)).select(*PAIRS)


def _divergences(one: pl.DataFrame, other: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """By sample, since the distributions of a dataset are large once they are unpacked."""
    found = [np.full((2, one.height), np.nan)]
    if one.height and one["vocabulary"].equals(other["vocabulary"]):
        grouped = (frame.partition_by("sample", maintain_order=True) for frame in (one, other))
        parts = zip(*grouped, strict=True)
        found = [np.stack(divergences(unpacked(own), unpacked(its))) for own, its in parts]
    values = np.concatenate(found, axis=1)
    return pl.Series("kl", values[0]), pl.Series("merged", values[1])


def _check(baseline: pl.DataFrame, candidate: pl.DataFrame, where: str) -> None:
    remedy = "make both close-ups with the same dataset and settings"
    for frame in (baseline, candidate):
        missing = [name for name in LOGITS.schema if name not in frame.columns]
        if missing:
            raise IndexscopeError(where, f"the predictions lack the column {missing[0]}", "make the close-up again")
    lone = pl.concat(
        [
            first.join(second, on=ROW, how="anti").select(ROW)
            for first, second in ((baseline, candidate), (candidate, baseline))
        ]
    ).sort(ROW)
    if lone.height:
        sample, query = lone.row(0)
        reason = f"{lone.height} queries were looked at in one model only (the first: sample {sample}, query {query})"
        raise IndexscopeError(where, reason, remedy)
    both = baseline.join(candidate, on=ROW, suffix="_candidate").sort(ROW)
    apart = both.filter(pl.col("next_token").ne_missing(pl.col("next_token_candidate")))
    if apart.height:
        sample, query = apart.select(ROW).row(0)
        reason = f"the models saw other tokens (the first: sample {sample}, after query {query})"
        raise IndexscopeError(where, reason, remedy)


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
