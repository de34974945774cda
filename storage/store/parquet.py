"""Frames as Parquet bytes: described columns, a measured layout, and the same bytes for the same frame."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from indexscope.columns import Table
from indexscope.foreign import reading


@dataclass(frozen=True)
class Layout:
    """How tables lie in Parquet files. The defaults were chosen by measurement: benchmarks/storage.py.

    Attributes:
        compression: Codec of every column, by pyarrow's name.
        level: Its level; None where it has none.
        floats: Encoding of floating-point columns: "BYTE_STREAM_SPLIT", "PLAIN" or "DICTIONARY".
        others: Encoding of all other columns but blobs: "DICTIONARY", "PLAIN" or "DELTA_BINARY_PACKED" (integers only).
        row_group: Rows of a row group. Stated, so that neither thread count nor the frame's own chunks decide.
    """

    compression: str = "zstd"
    level: int | None = 3
    floats: str = "PLAIN"
    others: str = "DICTIONARY"
    row_group: int = 1 << 17


LAYOUT = Layout()
REMEDY = "delete it and run the study again"


def encode(frame: pl.DataFrame, table: Table | None = None, layout: Layout = LAYOUT) -> bytes:
    """Write a frame; equal frames of one table give equal bytes, however they were built.

    Categories are written as their words, since their codes depend on what else the process has seen.

    Args:
        frame: Any frame; rows are written in its order.
        table: What its columns mean, which is written beside them.
        layout: How it is laid out; only benchmarks choose another than the default.
    """
    buffer = io.BytesIO()
    writer: pq.ParquetWriter | None = None
    # A row group at a time: one contiguous copy of a whole table would take as much memory as the table.
    for start in range(0, max(frame.height, 1), layout.row_group):
        rows = frame[start : start + layout.row_group].with_columns(cs.categorical().cast(pl.String))
        arrow = _described(rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks(), table)
        writer = writer or _writer(buffer, arrow.schema, layout)
        writer.write_table(arrow, row_group_size=layout.row_group)
    assert writer is not None
    writer.close()
    return buffer.getvalue()


def _writer(buffer: io.BytesIO, columns: pa.Schema, layout: Layout) -> pq.ParquetWriter:
    encodings = {field.name: _encoding(field.type, layout) for field in columns}
    return pq.ParquetWriter(
        buffer,
        columns,
        compression=layout.compression,
        compression_level=layout.level,
        use_dictionary=[name for name, encoding in encodings.items() if encoding == "DICTIONARY"],
        column_encoding={name: encoding for name, encoding in encodings.items() if encoding != "DICTIONARY"},
        # A minimum and a maximum of sketches or packed keys help no reader.
        write_statistics=[field.name for field in columns if not _is_blob(field.type)],
    )


def _encoding(kind: pa.DataType, layout: Layout) -> str:
    if pa.types.is_floating(kind):
        return layout.floats
    if _is_blob(kind):
        return "PLAIN"  # blobs do not repeat
    return layout.others if layout.others != "DELTA_BINARY_PACKED" or pa.types.is_integer(kind) else "DICTIONARY"


def decode(data: bytes, where: str) -> pl.DataFrame:
    """Read a frame back.

    Args:
        data: The file's bytes.
        where: The file, for the message.

    Raises:
        IndexscopeError: The bytes are no Parquet file.
    """
    with reading(where, REMEDY, "is not a readable Parquet file"):
        return pl.read_parquet(io.BytesIO(data))


def decode_parts(data: bytes, where: str, rows: int = LAYOUT.row_group) -> Iterator[pl.DataFrame]:
    """Read a frame back in parts of so many rows, in order; memory holds the file and a part.

    Args:
        data: The file's bytes.
        where: The file, for the message.
        rows: Rows of a part.

    Raises:
        IndexscopeError: The bytes are no Parquet file.
    """
    with reading(where, REMEDY, "is not a readable Parquet file"):
        scan = pl.scan_parquet(io.BytesIO(data))
        height = pq.ParquetFile(io.BytesIO(data)).metadata.num_rows
    for start in range(0, height, rows):
        with reading(where, REMEDY, "is not a readable Parquet file"):
            part = scan.slice(start, rows).collect()
        yield part


def units(data: bytes) -> dict[str, str]:
    """The units that a Parquet file gives for its columns, by column; columns without one are left out."""
    found = {field.name: (field.metadata or {}).get(b"unit") for field in pq.read_schema(io.BytesIO(data))}
    return {name: unit.decode() for name, unit in found.items() if unit is not None}


def _described(arrow: pa.Table, table: Table | None) -> pa.Table:
    if table is None:
        return arrow
    fields = []
    for field in arrow.schema:
        column = table.column(field.name)
        fields.append(field if column is None else field.with_metadata(column.metadata))
    return arrow.cast(pa.schema(fields))


def _is_blob(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
