"""From rows of single queries to weighted means of groups of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from indexscope.analysis.closeup.rows import CloseupRows
from indexscope.analysis.features.buckets import bucket_of
from indexscope.columns import Table


def array(values: torch.Tensor) -> NDArray[np.float64]:
    """A tensor's numbers in float64, wherever it is."""
    return np.asarray(values.detach().cpu().double().numpy(), dtype=np.float64)


def query_rows(rows: CloseupRows, counted: torch.Tensor, values: Mapping[str, torch.Tensor]) -> pl.DataFrame:
    """One row a query that counts: layer, bucket, weight and the values, NaN as null.

    Args:
        rows: A layer at the sampled queries.
        counted: Which of them count, [Q], bool.
        values: Quantities of each query, [Q].
    """
    kept = counted.cpu().numpy()
    frame = pl.DataFrame(
        {
            "layer": np.full(int(kept.sum()), rows.layer),
            "bucket": bucket_of(rows.query.cpu()).numpy()[kept],
            "weight": array(rows.weight)[kept],
            **{name: array(value)[kept] for name, value in values.items()},
        }
    )
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def means(name: str) -> pl.Expr:
    """sum(value x weight) / sum(weight) over the rows of a group where the value is known; null where it nowhere is."""
    known = pl.col("weight").filter(pl.col(name).is_not_null())
    return ((pl.col(name) * pl.col("weight")).sum() / known.sum()).fill_nan(None).alias(name)


def grouped(parts: Sequence[pl.DataFrame], measured: Sequence[pl.Expr], table: Table, sample: int) -> pl.DataFrame:
    """Rows of single queries as one table of a sample, sorted by its keys.

    Args:
        parts: Frames of `query_rows`.
        measured: Aggregations beside ``queries`` (their number) and ``weight`` (what they stand for).
        table: What they are grouped to; its key tells groups apart.
        sample: Index of the sample.
    """
    if not any(part.height for part in parts):
        return table.empty()
    _, *keys = table.key
    counts = (pl.len().alias("queries"), pl.col("weight").sum())
    frame = pl.concat([part for part in parts if part.height]).group_by(*keys).agg(*counts, *measured).sort(*keys)
    return table.shaped(frame.with_columns(sample=pl.lit(sample)))
