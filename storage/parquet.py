"""Frames as Parquet bytes: zstd, and the same bytes for the same frame."""

from __future__ import annotations

import io

import polars as pl
import polars.selectors as cs

from indexscope.errors import IndexscopeError

COMPRESSION_LEVEL = 3
# Stated, so that neither thread count nor the frame's own chunks decide where row groups end.
ROW_GROUP_ROWS = 1 << 17


def encode(frame: pl.DataFrame) -> bytes:
    """Write a frame; equal frames give equal bytes, however they were built.

    Categories are written as their words, since their codes depend on what else the process has seen.
    """
    buffer = io.BytesIO()
    frame.with_columns(cs.categorical().cast(pl.String)).rechunk().write_parquet(
        buffer,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        statistics=True,
        row_group_size=ROW_GROUP_ROWS,
    )
    return buffer.getvalue()


def decode(data: bytes, where: str) -> pl.DataFrame:
    """Read a frame back.

    Args:
        data: The file's bytes.
        where: The file, for the message.

    Raises:
        IndexscopeError: The bytes are no Parquet file.
    """
    try:
        return pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise IndexscopeError(where, "is not a readable Parquet file", "delete it and run the study again") from error
