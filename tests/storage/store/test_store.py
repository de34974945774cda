"""What is committed can be read, exactly; what is not, or not wholly, is never taken for it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from indexscope.storage.store.store import SCHEMA_VERSION, DamagedUnit, Store, step_key

KEY = step_key("features", {"checkpoint": "abc", "chunk": 256})
UNITS = ["shard-00000", "shard-00001", "shard-00002"]


def tables_of(number: int) -> dict[str, pl.DataFrame]:
    return {
        "tokens": pl.DataFrame({"sample": [number, number], "nll": [1.5, 2.5 + number]}),
        "attention": pl.DataFrame({"sample": [number], "attention_entropy": [0.25 * number]}),
    }


def fill(store: Store, units: list[str] = UNITS) -> None:
    for number, unit in enumerate(units):
        store.commit(KEY, unit, tables_of(number), "baseline")


def marker(store: Store, unit: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(store.folder.read(f"{KEY.path}/_commits/{unit}.json"))
    return content


def test_units_are_read_in_order_whatever_order_they_were_written_in(store: Store) -> None:
    for number in (2, 0, 1):
        store.commit(KEY, UNITS[number], tables_of(number), "baseline")
    assert store.read(KEY, "tokens")["sample"].to_list() == [0, 0, 1, 1, 2, 2]
    assert store.read(KEY, "tokens", [UNITS[2], UNITS[0]])["sample"].to_list() == [2, 2, 0, 0]
    assert store.tables(KEY) == ["attention", "tokens"]
    assert store.units(KEY) == UNITS
    whole = store.read_all(KEY)
    assert sorted(whole) == ["attention", "tokens"]
    assert_frame_equal(whole["attention"], pl.concat([tables_of(number)["attention"] for number in range(3)]))


def test_a_table_is_read_in_parts_only_if_it_is_what_was_committed(store: Store) -> None:
    rows = pl.DataFrame({"sample": range(150_000)}, schema={"sample": pl.Int32})
    store.commit(KEY, UNITS[0], {"tokens": rows}, "baseline")
    parts = list(store.read_parts(KEY, "tokens", UNITS[0]))
    assert [part.height for part in parts] == [1 << 17, 150_000 - (1 << 17)]
    assert_frame_equal(pl.concat(parts), rows)
    name = f"{KEY.path}/tokens/{UNITS[0]}.parquet"
    data = bytearray(store.folder.read(name))
    data[len(data) // 2] ^= 1
    store.folder.write(name, bytes(data))
    with pytest.raises(DamagedUnit, match="checksum"):
        next(store.read_parts(KEY, "tokens", UNITS[0]))


def test_status_follows_the_marker(store: Store) -> None:
    assert store.unit_status(KEY, UNITS[0]) == "missing"
    record = store.commit(KEY, UNITS[0], tables_of(0), "baseline", {"seconds": 1.5})
    assert store.unit_status(KEY, UNITS[0]) == "committed"
    assert store.unit_statuses(KEY, UNITS) == {UNITS[0]: "committed", UNITS[1]: "missing", UNITS[2]: "missing"}
    assert store.record(KEY, UNITS[0]) == record
    assert store.record(KEY, UNITS[1]) is None
    assert (record.rows, record.tables, record.extra) == (3, ("attention", "tokens"), {"seconds": 1.5})


def test_a_marker_names_its_files_with_size_rows_and_checksum(store: Store) -> None:
    fill(store)
    files = marker(store, UNITS[1])["files"]
    assert isinstance(files, list)
    for file in files:
        data = store.folder.read(f"{KEY.path}/{file['file']}")
        assert len(data) == file["bytes"]
        assert len(file["sha256"]) == 64
        assert file["rows"] == tables_of(1)[file["table"]].height


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied", "longer"])
def test_a_damaged_file_makes_just_its_unit_uncommitted(store: Store, damage: str) -> None:
    fill(store)
    name = f"{KEY.path}/tokens/{UNITS[1]}.parquet"
    data = store.folder.read(name)
    store.folder.remove(name)
    if damage != "deleted":
        store.folder.write(name, {"truncated": data[:-1], "emptied": b"", "longer": data + b"x"}[damage])
    expected = {UNITS[0]: "committed", UNITS[1]: "damaged", UNITS[2]: "committed"}
    assert store.unit_statuses(KEY, UNITS) == expected
    assert {unit: store.unit_status(KEY, unit) for unit in UNITS} == expected
    with pytest.raises(IndexscopeError, match=UNITS[1]):
        store.read(KEY, "tokens")
    assert store.read(KEY, "attention").height == 3

    store.commit(KEY, UNITS[1], tables_of(1), "baseline")
    assert store.folder.read(name) == data
    assert set(store.unit_statuses(KEY, UNITS).values()) == {"committed"}


def test_a_changed_byte_is_found_on_reading(store: Store) -> None:
    fill(store)
    name = f"{KEY.path}/tokens/{UNITS[1]}.parquet"
    data = bytearray(store.folder.read(name))
    data[len(data) // 2] ^= 1
    store.folder.write(name, bytes(data))
    with pytest.raises(IndexscopeError, match="checksum"):
        store.read(KEY, "tokens")
    # The remedy that the message gives is one that works.
    store.folder.remove(name)
    assert store.unit_status(KEY, UNITS[1]) == "damaged"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": 3}', b'{"unit": "shard-00001"}', b"\xff\xfe"])
def test_a_torn_marker_is_damage_and_not_a_crash(store: Store, content: bytes) -> None:
    fill(store)
    store.folder.write(f"{KEY.path}/_commits/{UNITS[1]}.json", content)
    assert store.unit_status(KEY, UNITS[1]) == "damaged"
    assert store.unit_statuses(KEY, UNITS)[UNITS[1]] == "damaged"
    assert store.list_steps()["state"].to_list() == ["damaged"]
    with pytest.raises(IndexscopeError, match="not a commit marker"):
        store.read(KEY, "tokens")
    store.commit(KEY, UNITS[1], tables_of(1), "baseline")
    assert store.unit_status(KEY, UNITS[1]) == "committed"


def test_a_marker_copied_from_another_unit_or_pointing_elsewhere_is_not_believed(store: Store) -> None:
    fill(store)
    content = marker(store, UNITS[0])
    name = f"{KEY.path}/_commits/{UNITS[1]}.json"
    store.folder.write(name, json.dumps(content).encode())
    assert store.unit_status(KEY, UNITS[1]) == "damaged"
    content = marker(store, UNITS[0])
    files = content["files"]
    assert isinstance(files, list)
    files[0]["file"] = "../../secret.parquet"
    store.folder.write(f"{KEY.path}/_commits/{UNITS[0]}.json", json.dumps(content).encode())
    assert store.unit_status(KEY, UNITS[0]) == "damaged"


def test_committing_again_changes_nothing(store: Store) -> None:
    first = store.commit(KEY, UNITS[0], tables_of(0), "baseline", {"seconds": 1})
    before = {name: store.folder.read(name) for name in store.folder.sizes()}
    again = store.commit(KEY, UNITS[0], tables_of(0), "another label", {"seconds": 2})
    assert again == first
    assert {name: store.folder.read(name) for name in store.folder.sizes()} == before


def test_two_stores_hold_the_same_bytes_for_the_same_work(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "one"), Store(tmp_path / "two")
    fill(one)
    fill(two, list(UNITS))
    contents = [{name: store.folder.read(name) for name in store.folder.sizes()} for store in (one, two)]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 1 + 3 * 3


def test_reading_what_is_not_there_says_what_is(store: Store) -> None:
    with pytest.raises(IndexscopeError, match="no committed unit"):
        store.read(KEY, "tokens")
    fill(store)
    with pytest.raises(IndexscopeError, match="attention, tokens"):
        store.read(KEY, "indexer")
    with pytest.raises(IndexscopeError, match="no committed shard-00009"):
        store.read(KEY, "tokens", ["shard-00009"])


def test_a_column_of_nulls_in_one_unit_does_not_stop_reading(store: Store) -> None:
    store.commit(KEY, "a", {"tokens": pl.DataFrame({"dense_nll": [None]})}, "x")
    store.commit(KEY, "b", {"tokens": pl.DataFrame({"dense_nll": [1.5]})}, "x")
    assert store.read(KEY, "tokens")["dense_nll"].to_list() == [None, 1.5]


def test_units_of_different_columns_are_one_clear_line(store: Store) -> None:
    store.commit(KEY, "a", {"tokens": pl.DataFrame({"nll": [1.0]})}, "x")
    store.commit(KEY, "b", {"tokens": pl.DataFrame({"loss": [1.5]})}, "x")
    with pytest.raises(IndexscopeError, match="different columns"):
        store.read(KEY, "tokens")


def test_a_manifest_says_what_was_asked_for_and_is_written_once(store: Store) -> None:
    store.prepare(KEY, "baseline", UNITS)
    first = store.folder.read(f"{KEY.path}/manifest.json")
    store.prepare(KEY, "another label", UNITS)
    store.commit(KEY, UNITS[0], tables_of(0), "a third")
    assert store.folder.read(f"{KEY.path}/manifest.json") == first
    manifest = store.manifest(KEY)
    assert manifest is not None
    assert (manifest.inputs, manifest.label, manifest.units) == (KEY.inputs, "baseline", tuple(UNITS))
    assert manifest.schema_version == SCHEMA_VERSION


def test_a_torn_manifest_is_written_anew(store: Store) -> None:
    fill(store)
    store.folder.write(f"{KEY.path}/manifest.json", b'{"kind"')
    assert store.read(KEY, "tokens").height == 6
    store.prepare(KEY, "baseline")
    assert store.manifest(KEY) is not None


def test_what_a_newer_version_wrote_is_refused_in_one_line(store: Store) -> None:
    fill(store)
    content = json.loads(store.folder.read(f"{KEY.path}/manifest.json"))
    content["schema_version"] = SCHEMA_VERSION + 1
    store.folder.write(f"{KEY.path}/manifest.json", json.dumps(content).encode())
    for use in (
        lambda: store.read(KEY, "tokens"),
        lambda: store.tables(KEY),
        lambda: store.unit_status(KEY, UNITS[0]),
        lambda: store.unit_statuses(KEY, UNITS),
        lambda: store.record(KEY, UNITS[0]),
        lambda: store.commit(KEY, "shard-00009", tables_of(9), "x"),
    ):
        with pytest.raises(IndexscopeError, match="upgrade indexscope") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert store.list_steps()["state"].to_list() == ["newer"]
    assert store.units(KEY) == UNITS


def test_listing_tells_complete_from_partial_from_open(store: Store) -> None:
    assert store.list_steps().height == 0
    fill(store)
    partial = step_key("analyses/distribution", {"x": 1})
    store.prepare(partial, "half", ["result", "other"])
    store.commit(partial, "result", {"metrics": pl.DataFrame({"value": [1.0]})}, "half")
    complete = step_key("comparisons", {"x": 1})
    store.prepare(complete, "whole", ["result"])
    store.commit(complete, "result", {"comparisons": pl.DataFrame({"value": [1.0]})}, "whole")
    listed = store.list_steps()
    assert listed.select("kind", "label", "units", "expected", "rows", "complete", "state").rows() == [
        ("analyses/distribution", "half", 1, 2, 1, False, "partial"),
        ("comparisons", "whole", 1, 1, 1, True, "complete"),
        ("features", "baseline", 3, None, 9, None, "open"),
    ]
    assert listed["digest"].to_list() == [partial.digest, complete.digest, KEY.digest]
    sizes = store.folder.sizes()
    assert listed["bytes"].sum() == sum(size for name, size in sizes.items() if name.endswith(".parquet"))
    assert listed["created"].null_count() == 0


def test_a_store_crosses_process_borders(local_store: Store) -> None:
    fill(local_store)
    copy = pickle.loads(pickle.dumps(local_store))
    record = pickle.loads(pickle.dumps(local_store.record(KEY, UNITS[0])))
    assert_frame_equal(copy.read(KEY, "tokens"), local_store.read(KEY, "tokens"))
    assert record == local_store.record(KEY, UNITS[0])


def test_polars_and_duckdb_read_the_tables_without_us(local_store: Store) -> None:
    fill(local_store)
    pattern = f"{local_store.location(KEY)}/tokens/*.parquet"
    expected = local_store.read(KEY, "tokens")
    assert_frame_equal(pl.scan_parquet(pattern).collect(), expected)
    total = duckdb.connect().execute(f"select sum(nll), count(*) from '{pattern}'").fetchall()
    assert total == [(expected["nll"].sum(), expected.height)]


def test_names_that_could_leave_the_store_are_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="unit"):
        store.commit(KEY, "../x", tables_of(0), "x")
    with pytest.raises(ValueError, match="table"):
        store.commit(KEY, UNITS[0], {"../x": tables_of(0)["tokens"]}, "x")
    assert store.unit_status(KEY, UNITS[0]) == "missing"
    assert [name for name in store.folder.sizes() if name.endswith(".parquet")] == []


def test_the_tables_of_a_unit_are_read_at_once_as_one_by_one(store: Store) -> None:
    store.prepare(KEY, "label", ["one"])
    store.commit(KEY, "one", {"b": pl.DataFrame({"x": [1, 2]}), "a": pl.DataFrame({"y": ["z"]})}, "made")
    found = store.read_unit(KEY, "one")
    assert list(found) == ["a", "b"]
    assert all(frame.equals(store.read(KEY, table, ["one"])) for table, frame in found.items())
    assert list(store.read_unit(KEY, "one", {"b", "c"})) == ["b"]
    with pytest.raises(IndexscopeError):
        store.read_unit(KEY, "two")
