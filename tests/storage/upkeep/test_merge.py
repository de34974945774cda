"""Merging takes over what is whole, byte for byte, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store.keys import SCHEMA_VERSION
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.records import STUDIES, new_record, read_records
from indexscope.storage.upkeep.collect import survey
from indexscope.storage.upkeep.merge import merge

KEY = step_key("features", {"checkpoint": "abc"})
OTHER = step_key("analyses/clustering", {"features": KEY.digest})
UNITS = [f"shard-{number:05d}" for number in range(3)]


def commit(store: Store, *numbers: int, value: float = 0.0) -> None:
    store.prepare(KEY, "base", UNITS)
    for number in numbers:
        table = pl.DataFrame({"value": [value + number]})
        store.commit(KEY, UNITS[number], {"tokens": table, "heads": table}, "base", {"seconds": 1.5 + number})


def paths(*numbers: int) -> list[str]:
    return [f"{KEY.path}/{UNITS[number]}" for number in numbers]


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.folder.read(name) for name in store.folder.sizes()}


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store(tmp_path / "source")


def test_two_halves_make_the_whole_byte_for_byte(source: Store, store: Store, tmp_path: Path) -> None:
    commit(store, 0)
    commit(source, 1, 2)
    source.commit(OTHER, "result", {"centres": pl.DataFrame({"value": [1]})}, "clustering")
    before = contents(source)
    own = contents(store)

    merged = merge(source, store, pytest.fail)

    assert sorted(merged.copied) == sorted([*paths(1, 2), f"{OTHER.path}/result"])
    assert merged.present == merged.differs == merged.damaged == merged.skipped == []
    assert contents(source) == before
    assert contents(store) == {**before, **own}
    assert merged.bytes == sum(len(data) for name, data in before.items() if name.endswith(".parquet"))
    assert store.read(KEY, "tokens")["value"].to_list() == [0.0, 1.0, 2.0]
    assert store.list_steps().filter(pl.col("kind") == "features")["state"].to_list() == ["complete"]
    # Once more there is nothing left to do.
    again = merge(source, store, pytest.fail)
    assert (again.copied, sorted(again.present)) == ([], sorted(merged.copied))
    assert contents(store) == {**before, **own}


def test_what_is_here_stays_where_the_other_differs(source: Store, store: Store) -> None:
    commit(store, 0)
    commit(source, 0, value=5.0)
    merged = merge(source, store, pytest.fail)
    assert (merged.copied, merged.differs) == ([], paths(0))
    assert store.read(KEY, "tokens")["value"].to_list() == [0.0]


def test_damaged_and_uncommitted_units_are_left_out(source: Store, store: Store) -> None:
    commit(source, 0, 1, 2)
    folder = Path(source.folder.root, KEY.path)
    flipped = folder / "tokens" / f"{UNITS[0]}.parquet"
    data = bytearray(flipped.read_bytes())
    data[10] ^= 1
    flipped.write_bytes(data)
    (folder / "_commits" / f"{UNITS[1]}.json").unlink()
    merged = merge(source, store, pytest.fail)
    assert (merged.copied, merged.damaged) == (paths(2), paths(0))
    assert store.units(KEY) == [UNITS[2]]
    assert not any(UNITS[0] in name or UNITS[1] in name for name in store.folder.sizes())


def test_a_damaged_unit_here_is_replaced_by_the_whole_one(source: Store, local_store: Store) -> None:
    commit(source, 0)
    commit(local_store, 0)
    Path(local_store.folder.root, KEY.path, "heads", f"{UNITS[0]}.parquet").write_bytes(b"torn")
    assert merge(source, local_store, pytest.fail).copied == paths(0)
    assert local_store.read(KEY, "heads")["value"].to_list() == [0.0]


def test_a_newer_store_is_refused_before_anything_is_written(source: Store, store: Store) -> None:
    commit(source, 0)
    source.commit(OTHER, "result", {"centres": pl.DataFrame({"value": [1]})}, "clustering")
    change_manifest(source, schema_version=SCHEMA_VERSION + 1)
    with pytest.raises(IndexscopeError, match=f"store schema {SCHEMA_VERSION + 1}"):
        merge(source, store, pytest.fail)
    assert store.folder.sizes() == {}


@pytest.mark.parametrize("change", [{"schema_version": SCHEMA_VERSION - 1}, {"inputs": {"checkpoint": "forged"}}])
def test_a_step_whose_address_is_not_what_its_inputs_make_is_left_out(
    source: Store, store: Store, change: dict[str, object]
) -> None:
    commit(source, 0)
    change_manifest(source, **change)
    merged = merge(source, store, pytest.fail)
    assert (merged.copied, merged.skipped) == ([], [KEY.path])
    assert store.folder.sizes() == {}


def test_studies_come_along_and_keep_what_was_imported(source: Store, store: Store) -> None:
    commit(source, 0)
    commit(store, 1)
    theirs = new_record("study", "study-1", {"base": KEY.path}, [KEY.path])
    theirs = replace(theirs, seen=theirs.seen - timedelta(days=90), ended=theirs.seen)
    source.folder.write(theirs.file, theirs.encode())
    merge(source, store, pytest.fail)
    assert read_records(store) == [theirs]
    assert survey(store, timedelta(0)).garbage == ()
    # A newer sign of life here is not set back.
    newer = replace(theirs, seen=theirs.seen + timedelta(days=1))
    store.folder.write(newer.file, newer.encode())
    merge(source, store, pytest.fail)
    assert read_records(store) == [newer]


def test_steps_are_safe_from_a_gc_while_they_are_imported(
    source: Store, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(source, 0)
    seen = []
    real = Store.prepare

    def prepare(self: Store, *arguments: object) -> None:
        real(self, *arguments)  # type: ignore[arg-type]
        seen.append((survey(self, timedelta(0)).garbage, [record.steps for record in read_records(self)]))

    monkeypatch.setattr(Store, "prepare", prepare)
    merge(source, store, pytest.fail)
    assert seen == [((), [(KEY.path,)])]
    assert store.folder.sizes(STUDIES) == {}


def test_a_store_is_not_merged_with_itself_or_with_nothing(source: Store, store: Store, tmp_path: Path) -> None:
    with pytest.raises(IndexscopeError, match="holds nothing"):
        merge(source, store, pytest.fail)
    commit(source, 0)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "source")
    with pytest.raises(IndexscopeError, match="is the store to import into"):
        merge(source, Store(link), pytest.fail)


def test_a_full_disk_is_one_line_and_the_next_import_goes_on(
    source: Store, local_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexscope.storage.store.files import Folder

    commit(source, 0, 1)
    real, left = Folder.stage, [3]

    def stage(self: Folder, name: str, data: bytes) -> object:
        if name.endswith(".parquet"):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device", name)
        return real(self, name, data)

    monkeypatch.setattr(Folder, "stage", stage)
    with pytest.raises(IndexscopeError, match=r"stopped the import \(No space left on device\); run it again"):
        merge(source, local_store, pytest.fail)
    monkeypatch.undo()
    assert local_store.units(KEY) == [UNITS[0]]
    assert not list(Path(local_store.folder.root).rglob("*.tmp"))
    assert merge(source, local_store, pytest.fail).copied == paths(1)


def change_manifest(store: Store, **fields: object) -> None:
    name = f"{KEY.path}/manifest.json"
    store.folder.write(name, json.dumps({**json.loads(store.folder.read(name)), **fields}).encode())
