"""Rows of the charts that a reader unfolds, made from result frames."""

from __future__ import annotations

import polars as pl

_ENDS = ("ci_low", "ci_high")


def chart_rows(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Rows whose last column is known, with these columns, the interval where every row has one, and n if it is there.

    Args:
        rows: In the order in which they are drawn.
        columns: Places and names first, the value last.
    """
    known = rows.filter(pl.col(columns[-1]).is_not_null())
    found = set(_ENDS) <= set(known.columns) and not any(known[end].null_count() for end in _ENDS)
    return known.select(*columns, *(_ENDS if found else ()), *(("n",) if "n" in known.columns else ()))


def by_position(where: pl.DataFrame, value: str) -> pl.DataFrame:
    """Layer, position (a bucket in words) and a value, of a frame by layer and bucket of the query's position."""
    rows = where.filter(pl.col("layer").is_not_null() & pl.col(value).is_not_null()).sort("bucket", "layer")
    start = 2 ** pl.col("bucket").cast(pl.Int64)
    words = (start - 1).cast(pl.String) + " to " + (2 * start - 2).cast(pl.String)
    return rows.select("layer", words.alias("position"), value)
