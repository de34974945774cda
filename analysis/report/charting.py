"""Rows of the charts that a reader unfolds, made from result frames."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.plots.drawing import INTERVAL

#: The first position of a bucket in words, for a column of labels, and what an axis of such calls it.
FROM = (2 ** pl.col("bucket").cast(pl.Int64) - 1).cast(pl.String).alias("from")
FROM_LABEL = "query position from (tokens, log)"


def chart_rows(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Rows whose last column is known, with these columns, the interval where every row has one, and n if it is there.

    Args:
        rows: In the order in which they are drawn.
        columns: Places and names first, the value last.
    """
    known = rows.filter(pl.col(columns[-1]).is_not_null())
    found = set(INTERVAL) <= set(known.columns) and not any(known[end].null_count() for end in INTERVAL)
    return known.select(*columns, *(INTERVAL if found else ()), *(("n",) if "n" in known.columns else ()))


def by_position(where: pl.DataFrame, value: str) -> pl.DataFrame:
    """Layer, position (a bucket in words) and a value, of a frame by layer and bucket of the query's position."""
    rows = where.filter(pl.col("layer").is_not_null() & pl.col(value).is_not_null()).sort("bucket", "layer")
    start = 2 ** pl.col("bucket").cast(pl.Int64)
    words = (start - 1).cast(pl.String) + " to " + (2 * start - 2).cast(pl.String)
    return rows.select("layer", words.alias("position"), value)
