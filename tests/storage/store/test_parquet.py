"""Equal frames are equal bytes, and come back as they were."""

from __future__ import annotations

import io

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.analysis.features.columns import TOKENS
from indexscope.errors import IndexscopeError
from indexscope.storage.store.parquet import LAYOUT, decode, decode_parts, encode

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.floats(allow_nan=True),
        st.none() | st.text(max_size=5),
        st.none() | st.binary(max_size=5),
    ),
    max_size=30,
)
WORDS = [str(word) for word in range(7)]
SCHEMA = {"sample": pl.Int32, "value": pl.Float64, "name": pl.String, "sketch": pl.Binary}


def frame_of(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(ROWS, st.integers(0, 30))
def test_bytes_do_not_depend_on_how_a_frame_was_put_together(rows: list[tuple[object, ...]], cut: int) -> None:
    whole = frame_of(rows)
    pieces = pl.concat([frame_of(rows[:cut]), frame_of(rows[cut:])], rechunk=False)
    sliced = frame_of([*rows, *rows]).head(len(rows))
    assert encode(whole) == encode(pieces) == encode(sliced) == encode(whole.clone())


@given(ROWS)
def test_a_frame_comes_back_as_it_was(rows: list[tuple[object, ...]]) -> None:
    assert_frame_equal(decode(encode(frame_of(rows)), "file"), frame_of(rows))


def test_bytes_do_not_depend_on_threads_for_many_rows() -> None:
    frame = pl.DataFrame({"a": range(400_000)}).with_columns(b=pl.col("a") % 7)
    first = encode(frame)
    assert first == encode(pl.concat([frame[:123_456], frame[123_456:]], rechunk=False))


def test_categories_are_written_as_words() -> None:
    words = ["b", "a", "b"]
    frame = pl.DataFrame({"word": pl.Series(words, dtype=pl.Categorical)})
    assert encode(frame) == encode(pl.DataFrame({"word": words}))


def test_bytes_that_are_no_parquet_are_one_clear_line() -> None:
    with pytest.raises(IndexscopeError, match="here: is not a readable Parquet file"):
        decode(b"PAR1 nonsense PAR1", "here")


DTYPES = {
    **{f"i{dtype}": dtype for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt64)},
    **{"f32": pl.Float32, "f64": pl.Float64, "text": pl.String, "flag": pl.Boolean, "blob": pl.Binary},
}


def test_every_type_comes_back_with_its_nulls_also_without_rows() -> None:
    values: dict[str, list[object]] = {name: [0, None, 1] for name in DTYPES}
    values |= {"f32": [float("nan"), None, -0.0], "f64": [float("inf"), None, float("nan")]}
    values |= {"text": ["", None, "ö\n"], "flag": [True, None, False], "blob": [b"", None, b"\0\xff"]}
    frame = pl.DataFrame(values, schema=DTYPES)
    for part in (frame, frame.clear(), frame[1:2]):
        back = decode(encode(part), "file")
        assert back.schema == frame.schema
        assert_frame_equal(back, part)


def test_a_reader_skips_row_groups_by_their_statistics() -> None:
    rows = 2 * LAYOUT.row_group + 5
    frame = pl.DataFrame({"layer": pl.Series(range(rows)) // LAYOUT.row_group, "blob": pl.Series([b"x"] * rows)})
    file = pq.ParquetFile(io.BytesIO(encode(frame)))
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [LAYOUT.row_group, LAYOUT.row_group, 5]
    ranges = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
    assert ranges == [(0, 0), (1, 1), (2, 2)]
    assert [group.column(0).statistics.null_count for group in groups] == [0, 0, 0]
    assert not any(group.column(1).is_stats_set for group in groups)
    assert {group.column(0).compression for group in groups} == {"ZSTD"}


@given(ROWS)
def test_bytes_of_a_described_table_are_equal_for_equal_frames(rows: list[tuple[object, ...]]) -> None:
    frame = frame_of(rows).rename({"value": "nll"})
    again = frame.select(pl.all().shuffle(seed=1)).clear().vstack(frame)
    assert encode(frame, TOKENS) == encode(again, TOKENS)


@given(ROWS, st.integers(1, 12))
def test_parts_make_the_whole(rows: list[tuple[object, ...]], size: int) -> None:
    parts = list(decode_parts(encode(frame_of(rows)), "file", size))
    assert [part.height for part in parts[:-1]] == [size] * (len(parts) - 1)
    assert_frame_equal(pl.concat([frame_of([]), *parts]), frame_of(rows))


def test_row_groups_are_written_one_by_one_as_they_are_all_at_once() -> None:
    frame = pl.DataFrame({"a": range(400_000)}).with_columns(b=(pl.col("a") % 7).cast(pl.String).cast(pl.Enum(WORDS)))
    whole = io.BytesIO()
    kinds = frame[:1].to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    arrow = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks().cast(kinds)
    options = {"compression": "zstd", "compression_level": 3, "use_dictionary": ["a", "b"]}
    pq.write_table(arrow, whole, row_group_size=LAYOUT.row_group, write_statistics=["a", "b"], **options)
    assert encode(frame) == whole.getvalue()


def test_parts_of_bytes_that_are_no_parquet_are_one_clear_line() -> None:
    with pytest.raises(IndexscopeError, match="here: is not a readable Parquet file"):
        next(decode_parts(b"PAR1 nonsense PAR1", "here"))
