"""Equal frames are equal bytes, and come back as they were."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from storage.parquet import decode, encode

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**31), 2**31 - 1),
        st.none() | st.floats(allow_nan=True),
        st.none() | st.text(max_size=5),
        st.none() | st.binary(max_size=5),
    ),
    max_size=30,
)
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
