"""Two models' predictions side by side: one row for each query that both were probed at."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.divergence.kl import divergences
from indexscope.analysis.predictions import LOGITS, unpacked
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
        baseline: The baseline's table ``logits`` of the probe.
        candidate: The candidate's.
        where: What an error names.

    Returns:
        sample, query, bucket, weight, token_class (of the true next token), baseline_nll and nll, change (probability
        of the true next token, candidate less baseline), same (whether the likeliest token is), kl (in nats) and
        merged (the baseline's probability of tokens that are not told apart), by sample and query. After a sample's
        last token all that needs the next one is null; kl and merged are where no probabilities are stored, and where
        the vocabularies differ in size.

    Raises:
        IndexscopeError: The models were not probed at the same queries of the same tokens, or a table is damaged.
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
    remedy = "probe both with the same dataset and probe settings"
    for frame in (baseline, candidate):
        missing = [name for name in LOGITS.schema if name not in frame.columns]
        if missing:
            raise IndexscopeError(where, f"the predictions lack the column {missing[0]}", "probe the model again")
    lone = pl.concat(
        [
            first.join(second, on=ROW, how="anti").select(ROW)
            for first, second in ((baseline, candidate), (candidate, baseline))
        ]
    ).sort(ROW)
    if lone.height:
        sample, query = lone.row(0)
        reason = f"{lone.height} queries were probed of one model only (the first: sample {sample}, query {query})"
        raise IndexscopeError(where, reason, remedy)
    both = baseline.join(candidate, on=ROW, suffix="_candidate").sort(ROW)
    apart = both.filter(pl.col("next_token").ne_missing(pl.col("next_token_candidate")))
    if apart.height:
        sample, query = apart.select(ROW).row(0)
        reason = f"the models saw other tokens (the first: sample {sample}, after query {query})"
        raise IndexscopeError(where, reason, remedy)
