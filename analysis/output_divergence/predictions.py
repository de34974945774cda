"""The stored next-token distributions of sampled queries: how a table of them is written and read.

Log-probabilities are float16, and what is read back is made to sum to one again. Divergences of the built-in models,
1.6e-3 nats on average, are then off by 4e-7 on average and by 6e-5 at most, and never negative; else by 1e-5 and 4e-4,
more than many a divergence. float32 would take twice the bytes: 7.0 kB a query for 2,048 tokens, and not 3.3 kB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.statistics.varint import decode_rows, encode_rows
from indexscope.columns import of, places, table_of
from indexscope.errors import IndexscopeError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
LOGITS = table_of(
    "sample, query",
    "sample query",
    places("bucket"),
    of(pl.Float64, "queries", weight="Queries that the sampled one stands for."),
    of(pl.Int32, next_token="Id of the true next token; null after a sample's last token."),
    of(pl.String, token_class="Kind of the true next token; null also where there is no tokenizer."),
    of(
        pl.Float64,
        "nats",
        nll="Negative log-likelihood of the true next token, of the whole distribution in float64.",
    ),
    of(pl.Int32, top_token="Id of the likeliest next token; the lowest of equals."),
    of(pl.Int32, "tokens", vocabulary="Size of the vocabulary.", kept="Likeliest tokens that are stored."),
    of(pl.Float64, "share", rest="Probability of all tokens that are not stored, exactly 0 where all are."),
    of(
        pl.Binary,
        tokens="Ids of the stored tokens, ascending, as gaps in LEB128 like the keys of selections.",
        log_probs="Their natural log-probabilities in that order, little-endian float16.",
    ),
)
COLLECTED = {"logits": LOGITS}


@dataclass(frozen=True)
class Distributions:
    """Next-token distributions of Q queries, as much of each as was kept.

    Attributes:
        counts: Tokens kept of each query, [Q].
        tokens: Their ids, ascending within a query, one query after the other.
        log_probs: Their natural log-probabilities, normalised so that a query's sum to 1 - rest.
        rest: Probability of all other tokens, [Q].
    """

    counts: Integers
    tokens: Integers
    log_probs: Array
    rest: Array


def packed(tokens: Integers, log_probs: Array) -> dict[str, list[bytes]]:
    """The columns ``tokens`` and ``log_probs``.

    Args:
        tokens: Ids of the kept tokens, ascending, [Q, kept].
        log_probs: Their log-probabilities, same shape.
    """
    queries, kept = tokens.shape
    halves = log_probs.astype("<f2")
    return {
        "tokens": encode_rows(tokens.ravel(), np.full(queries, kept, dtype=np.int64)),
        "log_probs": [row.tobytes() for row in halves],
    }


def unpacked(table: pl.DataFrame) -> Distributions:
    """What a table ``logits`` holds.

    Raises:
        IndexscopeError: A row's bytes are no distribution (cut off, ids that repeat, another number than it says).
    """
    tokens, counts, sound = decode_rows(table["tokens"].to_list())
    written = table["log_probs"].to_list()
    sizes = np.fromiter(map(len, written), dtype=np.int64, count=len(written))
    damaged = np.flatnonzero(~sound | (counts != table["kept"].to_numpy()) | (sizes != 2 * counts))
    if len(damaged):
        sample, query = table.select("sample", "query").row(int(damaged[0]))
        raise IndexscopeError(
            "logits",
            f"{len(damaged)} rows hold no distribution, the first is sample {sample}, query {query}",
            "make the close-up again",
        )
    log_probs = np.frombuffer(b"".join(written), dtype="<f2").astype(np.float64)
    rest = table["rest"].to_numpy()
    # A row of which nothing is kept has no sum to divide by, and nothing that could be divided.
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.log1p(-rest) - np.log(row_sums(np.exp(log_probs), counts))
    return Distributions(counts, tokens, log_probs + np.repeat(shift, counts), rest)


def row_sums(values: Array, counts: Integers) -> Array:
    """Sums of values that lie row after row, [rows]; 0 for a row without any."""
    row = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(row, weights=values, minlength=len(counts)).astype(np.float64)
