from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexscope import IndexscopeError
from indexscope.analysis.features.stored_selections import (
    ROW,
    SELECTIONS,
    changed_keys,
    compare_selections,
    with_keys,
)
from indexscope.analysis.statistics.varint import decode_rows, encode_rows
from indexscope.storage.store import parquet

Selected = dict[tuple[int, int, int, int], set[int]]
STORAGE = Path(__file__).parents[3] / "docs" / "storage.md"


def table(selected: Selected, unit: str = "token", eligible: int | None = None) -> pl.DataFrame:
    """A table of selections, its keys written one by one."""
    rows = []
    for row, keys in selected.items():
        n = row[3] + 1 if eligible is None else eligible
        rows.append((*row, unit, n, len(keys), 1, written(sorted(keys))))
    return pl.DataFrame(rows, schema=SELECTIONS.schema, orient="row").sort(ROW)


def written(keys: list[int]) -> bytes:
    """Gaps as LEB128, straight from the definition."""
    data = bytearray()
    for key, before in zip(keys, [0, *keys], strict=False):
        gap = key - before
        while gap >= 128:
            data.append(gap % 128 + 128)
            gap //= 128
        data.append(gap)
    return bytes(data)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Selected, Selected]:
    """Two models' selections of the same queries."""
    rows = [
        (sample, layer, group, query)
        for sample in range(draw(st.integers(1, 2)))
        for layer in (0, 3)
        for group in range(2)
        for query in (0, 1, 9, 70)
    ]
    chosen = [{row: draw(st.sets(st.integers(0, row[3]))) for row in rows} for _ in range(2)]
    return chosen[0], chosen[1]


@given(st.lists(st.sets(st.integers(0, 2**35 - 1) | st.integers(0, 300)).map(sorted)))
def test_keys_are_written_as_defined_and_come_back(rows: list[list[int]]) -> None:
    flat = np.array([key for row in rows for key in row], dtype=np.int64)
    encoded = encode_rows(flat, np.array([len(row) for row in rows], dtype=np.int64))
    assert encoded == [written(row) for row in rows]
    keys, counts, sound = decode_rows(encoded)
    assert keys.tolist() == flat.tolist() and counts.tolist() == [len(row) for row in rows] and sound.all()


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_any_bytes_are_read_or_found_unsound(rows: list[bytes]) -> None:
    keys, counts, sound = decode_rows(rows)
    assert len(counts) == len(sound) == len(rows) and len(keys) == counts.sum()
    if sound.all():
        for row in np.split(keys, np.cumsum(counts)[:-1]):
            assert (np.diff(row) > 0).all() and (row >= 0).all()


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_keys_come_back_from_parquet(pair: tuple[Selected, Selected]) -> None:
    first = table(pair[0])
    again = with_keys(parquet.decode(parquet.encode(first), "test"))
    assert {row[:4]: set(row[-1]) for row in again.iter_rows()} == pair[0]
    assert again.schema["keys"] == pl.List(pl.UInt32)


def test_the_largest_keys_come_back() -> None:
    last = 2**31 - 2
    everything = {(0, 0, 0, 5000): set(range(5001)), (0, 0, 0, last): {0, last}, (0, 0, 0, 7): set()}
    assert {row[:4]: set(row[-1]) for row in with_keys(table(everything)).iter_rows()} == everything


@given(pairs())
@settings(max_examples=40, deadline=None)
def test_comparison_equals_sets_compared_one_by_one(pair: tuple[Selected, Selected]) -> None:
    baseline, candidate = pair
    compared = compare_selections(table(baseline), table(candidate).sample(fraction=1, shuffle=True, seed=1))
    assert compared.select(ROW).rows() == sorted(baseline)
    changed = {row[:4]: row[5:] for row in changed_keys(table(baseline), table(candidate)).iter_rows()}
    for found in compared.iter_rows(named=True):
        row = tuple(found[name] for name in ROW)
        one, other = baseline[row], candidate[row]
        assert (found["kept"], found["dropped"], found["added"]) == (
            len(one & other),
            len(one - other),
            len(other - one),
        )
        assert found["baseline_selected"] == len(one) and found["candidate_selected"] == len(other)
        assert found["jaccard"] == (pytest.approx(len(one & other) / len(one | other)) if one | other else None)
        assert found["in_effect"] == (min(len(one), len(other)) < row[3] + 1)
        assert (row in changed) == (one != other)
        if one != other:
            assert changed[row] == (sorted(one - other), sorted(other - one))


def test_layers_in_which_only_one_model_selects_are_left_out() -> None:
    both = {(0, 1, 0, 4): {0, 4}}
    compared = compare_selections(table(both | {(0, 0, 0, 4): {1}}), table(both | {(0, 2, 0, 4): {1}}))
    assert compared["layer"].to_list() == [1]
    empty = table({})
    assert compare_selections(empty, empty).is_empty()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (table({(0, 0, 0, 5): {0}, (0, 0, 0, 6): {0}}), "1 queries are stored for one model only .* query 6"),
        (table({(1, 0, 0, 5): {0}}), "2 queries are stored for one model only .* sample 0"),
        (table({(0, 0, 0, 5): {0}}, eligible=4), r"differ in eligible at sample 0, layer 0, query 5 \(6 and 4\)"),
        (table({(0, 0, 0, 5): {0}}, unit="entry"), r"differ in unit .* \(token and entry\)"),
        (table({(0, 7, 0, 5): {0}}), "no layer in which both models select"),
        (pl.concat([table({(0, 0, 0, 5): {0}})] * 2), "candidate has two rows for one query"),
    ],
)
def test_tables_of_other_queries_are_refused(other: pl.DataFrame, reason: str) -> None:
    with pytest.raises(IndexscopeError, match=reason) as caught:
        compare_selections(table({(0, 0, 0, 5): {0}}), other)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"keys": b"\0\0"},
        {"keys": b"\0\6"},
        {"keys": b"\0\5\x80"},
        {"keys": b"\0"},
        {"keys": b"\x80\x80\x80\x80\x80\x01\5"},
        {"keys": b"\xff\xff\xff\xff\x7f\5"},
        {"keys": b"\xff" * 100},
        {"keys": b""},
        {"keys": None},
        {"selected": None},
        {"eligible": 1},
        {"unit": "entry", "keys": b"\0\xff\xff\xff\xff\x7f"},
    ],
)
def test_damaged_rows_are_one_clear_error(damage: dict[str, object]) -> None:
    row = {**dict(zip(ROW, (3, 2, 0, 5), strict=True)), "unit": "token", "eligible": 6, "selected": 2, "keys": b"\0\5"}
    assert with_keys(pl.DataFrame([row], schema=SELECTIONS.schema))["keys"].to_list() == [[0, 5]]
    with pytest.raises(
        IndexscopeError, match="1 rows hold no selection, the first is sample 3, layer 2, group 0, query 5"
    ):
        with_keys(pl.DataFrame([row | damage], schema=SELECTIONS.schema))


def test_a_table_of_something_else_is_refused() -> None:
    with pytest.raises(IndexscopeError, match="lacks the column keys"):
        with_keys(table({}).drop("keys"))


def test_the_example_of_the_documentation_reads_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = STORAGE.read_text(encoding="utf-8").split("### Selected keys")[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    folder = tmp_path / ".indexscope" / "features" / "abc" / "selections"
    folder.mkdir(parents=True)
    selected = {(0, 0, 0, 1): {0, 1}, (0, 0, 0, 9): {0, 9}, (0, 0, 0, 10): {3, 4, 10}, (0, 1, 0, 400): {5, 300}}
    (folder / "shard-00000.parquet").write_bytes(parquet.encode(table(selected)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example[1], names)
    assert capsys.readouterr().out == "0 1 400 [5, 300]\n"
    assert [set(names["keys"](data)) for data in names["selections"]["keys"]] == [selected[row] for row in selected]


def test_every_column_is_documented() -> None:
    section = STORAGE.read_text(encoding="utf-8").split("### Selected keys")[1].split("\n## ")[0]
    documented = [name for line in section.splitlines() if line.startswith("| `") for name in
                  re.findall(r"`(\w+)`", line.split("|")[1])]  # fmt: skip
    assert sorted(documented) == sorted(SELECTIONS.schema)
