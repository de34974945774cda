"""Tables of predictions made from whole distributions, as a close-up stores them."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.collect import CloseupSample, Predicting
from indexscope.analysis.output_divergence.collect import prediction_collector
from indexscope.analysis.output_divergence.predictions import LOGITS

Array = NDArray[np.float64]


def stored(log_probs: Array, top: int = 4096, weight: list[float] | None = None, sample: int = 0) -> pl.DataFrame:
    """The table ``logits`` of one sample whose tokens are all 0; query t has the t-th distribution, [Q, vocabulary]."""
    queries = len(log_probs)
    weights = torch.tensor(weight or [1.0] * queries, dtype=torch.float64)
    ids = torch.zeros(queries, dtype=torch.int64)
    planted = CloseupSample(sample, "planted", ids, torch.arange(queries), weights)
    rows = prediction_collector(top, np.zeros(log_probs.shape[1], np.int8))(planted)
    assert isinstance(rows, Predicting)
    rows.predicted(0, torch.from_numpy(log_probs)[None])
    return rows.tables()["logits"]


def normal(values: Array) -> Array:
    """Log-probabilities of logits, [..., vocabulary]."""
    shifted = values - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def together(*samples: pl.DataFrame) -> pl.DataFrame:
    """Tables of several samples as one."""
    return pl.concat([LOGITS.empty(), *samples])


def tokens(nll: list[list[float]], dense: float | None = None) -> pl.DataFrame:
    """The features' table ``tokens``: nll of each sample and bucket, bucket b of 2^b tokens."""
    rows = [
        (sample, bucket, 2**bucket, value, None if dense is None else dense)
        for sample, values in enumerate(nll)
        for bucket, value in enumerate(values)
    ]
    schema = {"sample": pl.Int32, "bucket": pl.Int8, "tokens": pl.Int32, "nll": pl.Float64, "dense_nll": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")
