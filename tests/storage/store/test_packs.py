"""Packs of markers: the answers are those of the markers, whoever writes, replaces or dies in between."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexscope.errors import IndexscopeError
from indexscope.storage.store import files, packs
from indexscope.storage.store.records import UnitRecord
from indexscope.storage.store.store import DamagedUnit, Store, step_key
from indexscope.storage.studies.records import in_use, new_record
from indexscope.storage.upkeep.collect import collect, survey
from indexscope.storage.upkeep.merge import merge
from indexscope.storage.upkeep.verify import Finding, verify
from tests.storage.store.test_store_crashes import Stopped, nth, stop

KEY = step_key("features", {"checkpoint": "abc"})
#: Two packs, the second of which is short.
UNITS = [f"shard-{number:05d}" for number in (*range(997, 1000), *range(1000, 1002))]
FIRST, SECOND = "_packs/shard-00xxx.json.gz", "_packs/shard-01xxx.json.gz"


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps of three units have packs."""
    monkeypatch.setattr(packs, "LEAST", 3)
    monkeypatch.setattr(packs, "FEW", 3)


def put(store: Store, unit: str, value: float = 0.0, seconds: float = 1.0) -> None:
    tables = {"tokens": pl.DataFrame({"value": [value, 1.0]})}
    if unit != UNITS[1]:  # a dense model has fewer tables
        tables["indexer"] = pl.DataFrame({"value": [value]})
    store.commit(KEY, unit, tables, "x", {"seconds": seconds, "notes": ["a", "é"]})


def fill(store: Store) -> Store:
    store.prepare(KEY, "x", UNITS)
    for number, unit in enumerate(UNITS):
        put(store, unit, float(number))
    return store


def answers(store: Store) -> dict[str, Any]:
    """All that is asked of many units at once."""
    return {
        "statuses": store.unit_statuses(KEY, UNITS),
        "content": store.content(KEY, UNITS),
        "records": list(store.records(KEY, UNITS)),
        "listed": store.list_steps().drop("created").rows(),
        "tables": store.tables(KEY),
        "read": store.read(KEY, "indexer").to_dicts(),
        "by unit": [{name: frame.to_dicts() for name, frame in one.items()} for one in read_units(store)],
    }


def read_units(store: Store) -> Iterator[dict[str, pl.DataFrame]]:
    return store.read_units(KEY, ["tokens", "indexer"], UNITS)


def there(store: Store) -> list[str]:
    return list(store.folder.child(KEY.path).sizes(packs.FOLDER))


def test_packs_answer_as_markers_do(store: Store) -> None:
    fill(store)
    before = answers(store)
    assert not store.is_packed(KEY, UNITS)
    assert store.compact(KEY, UNITS) == 2 and there(store) == [FIRST, SECOND]
    assert store.is_packed(KEY, UNITS) and not store.is_packed(KEY, [*UNITS, "shard-01002"])
    assert answers(store) == before
    assert store.compact(KEY, UNITS) == 0, "they are written once"


def test_packs_are_asked_instead_of_markers_and_listings(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(local_store)
    before = answers(store)
    store.compact(KEY, UNITS)
    read, opened, listed = files.Folder.read, list[str](), list[str]()
    sizes = files.Folder.sizes
    monkeypatch.setattr(files.Folder, "read", lambda self, name: (opened.append(name), read(self, name))[1])
    monkeypatch.setattr(files.Folder, "sizes", lambda self, name="": (listed.append(name), sizes(self, name))[1])
    assert store.unit_statuses(KEY, UNITS) == before["statuses"]
    assert store.content(KEY, UNITS) == before["content"]
    assert store.list_steps().drop("created").rows() == before["listed"]
    assert not [name for name in opened if "_commits" in name] and set(listed) == {packs.FOLDER}


def test_a_step_of_few_units_and_one_that_is_not_complete_have_no_packs(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.prepare(KEY, "x", UNITS)
    for unit in UNITS[:-1]:
        put(store, unit)
    assert store.compact(KEY, UNITS) == 1 and there(store) == [FIRST]
    assert store.unit_statuses(KEY, UNITS) == {**dict.fromkeys(UNITS[:-1], "committed"), UNITS[-1]: "missing"}
    (row,) = store.list_steps().rows(named=True)
    assert (row["units"], row["expected"], row["state"]) == (4, 5, "partial")
    with pytest.raises(IndexscopeError, match=f"has no committed {UNITS[-1]}"):
        store.content(KEY, UNITS)
    monkeypatch.setattr(packs, "LEAST", 6)
    put(store, UNITS[-1])
    assert store.compact(KEY, UNITS) == 0


def test_a_unit_that_is_discarded_or_made_anew_is_told_from_its_marker(store: Store) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    store.discard(KEY, UNITS[0])
    assert there(store) == [SECOND]
    assert store.unit_statuses(KEY, UNITS) == {**dict.fromkeys(UNITS, "committed"), UNITS[0]: "missing"}
    put(store, UNITS[0], 99.0)
    assert store.read(KEY, "tokens", UNITS)["value"][0] == 99.0
    store.compact(KEY, UNITS)
    assert there(store) == [FIRST, SECOND] and store.read(KEY, "tokens", UNITS)["value"][0] == 99.0


def test_a_commit_over_a_damaged_unit_takes_its_pack_away(store: Store) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    store.folder.remove(f"{KEY.path}/tokens/{UNITS[0]}.parquet")
    with pytest.raises(DamagedUnit):
        store.read(KEY, "tokens", UNITS)
    put(store, UNITS[0], 99.0)
    assert there(store) == [SECOND] and store.read(KEY, "tokens", UNITS)["value"][0] == 99.0


@pytest.mark.parametrize("what", ["truncated", "flipped", "foreign", "of another name", "no pack"])
def test_a_pack_that_is_damaged_is_as_none_and_is_told_by_verify(store: Store, what: str) -> None:
    fill(store)
    before = answers(store)
    store.compact(KEY, UNITS)
    name = f"{KEY.path}/{FIRST}"
    data = bytearray(store.folder.read(name))
    if what == "truncated":
        del data[-9:]
    elif what == "flipped":
        data[len(data) // 2] ^= 1
    elif what == "foreign":
        lines = gzip.decompress(data).decode().split("\n")
        data = bytearray(gzip.compress("\n".join([lines[0].replace(KEY.digest, "0" * 20), *lines[1:]]).encode()))
    elif what == "of another name":
        data = bytearray(store.folder.read(f"{KEY.path}/{SECOND}"))
    else:
        data = bytearray(gzip.compress(json.dumps([1]).encode() + b"\n[]\n"))
    store.folder.write(name, bytes(data))
    assert answers(store) == before
    found: list[Finding] = []
    verify(store, found.append)
    assert [(one.unit, one.file) for one in found] == [(None, FIRST)] and "is not as it was written" in found[0].problem
    assert store.compact(KEY, UNITS) == 1, "it is written anew"
    found.clear()
    verify(store, found.append)
    assert found == []


def test_a_pack_of_a_newer_indexscope_is_refused(store: Store) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    lines = gzip.decompress(store.folder.read(f"{KEY.path}/{FIRST}")).decode()
    newer = lines.replace('"schema_version":1', '"schema_version":2')
    store.folder.write(f"{KEY.path}/{FIRST}", gzip.compress(newer.encode()))
    with pytest.raises(IndexscopeError, match="store schema 2"):
        store.unit_statuses(KEY, UNITS)
    assert store.list_steps()["state"].to_list() == ["newer"]


def test_a_stale_pack_which_an_older_indexscope_leaves_is_met_as_damage_and_mended(store: Store) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    for name in (f"_commits/{UNITS[0]}.json", f"tokens/{UNITS[0]}.parquet", f"indexer/{UNITS[0]}.parquet"):
        store.folder.remove(f"{KEY.path}/{name}")  # as one that knows no packs discards
    found: list[Finding] = []
    verify(store, found.append)
    assert [one.file for one in found] == [FIRST] and "is not what the markers" in found[0].problem
    with pytest.raises(DamagedUnit) as damage:
        list(read_units(store))
    store.discard(damage.value.key, damage.value.unit)
    assert store.unit_statuses(KEY, UNITS)[UNITS[0]] == "missing"
    put(store, UNITS[0], 5.0)
    assert store.read(KEY, "tokens", UNITS)["value"][0] == 5.0


def test_an_older_indexscope_finds_all_it_knows_in_a_compacted_store(store: Store) -> None:
    fill(store)
    plain = {name: store.folder.read(name) for name in store.folder.sizes()}
    store.compact(KEY, UNITS)
    now = {name: store.folder.read(name) for name in store.folder.sizes()}
    assert {name: data for name, data in now.items() if packs.FOLDER not in name} == plain


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("place", ["before", "after"])
def test_a_compaction_that_dies_at_any_write_changes_no_answer(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: int, place: str
) -> None:
    fill(store)
    before, write, count = answers(store), files.Folder.write, 0

    def dying(self: files.Folder, name: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if (count, place) == (call, "before"):
            raise Stopped
        write(self, name, data)
        if (count, place) == (call, "after"):
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(files.Folder, "write", dying)
        with pytest.raises(Stopped):
            store.compact(KEY, UNITS)
    assert answers(store) == before
    store.compact(KEY, UNITS)
    assert there(store) == [FIRST, SECOND] and answers(store) == before


@pytest.mark.parametrize("call", range(1, 7))
def test_a_discard_that_dies_at_any_step_leaves_nothing_believed_that_is_not_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    with monkeypatch.context() as patch, suppress(Stopped):
        patch.setattr(files.Folder, "remove", nth(call, files.Folder.remove, stop))
        store.discard(KEY, UNITS[0])
    whole = store.unit_status(KEY, UNITS[0]) == "committed"
    assert (store.unit_statuses(KEY, UNITS)[UNITS[0]] == "committed") == whole
    if whole:
        store.read(KEY, "tokens", UNITS)


def test_two_compactors_and_readers_at_once_see_the_same_all_along(store: Store) -> None:
    fill(store)
    before = answers(store)
    with ThreadPoolExecutor(6) as pool:
        compacting = [pool.submit(store.compact, KEY, UNITS) for _ in range(3)]
        reading = [pool.submit(answers, store) for _ in range(6)]
        assert all(one.result() == before for one in reading)
        assert sum(one.result() for one in compacting) >= 2
    assert answers(store) == before


#: What takes turns with a compaction, between any two of its reads and writes.
TURNS = st.lists(st.tuples(st.sampled_from(["discard", "put", "compact"]), st.integers(0, 4)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=TURNS, places=st.lists(st.integers(1, 12), min_size=4, max_size=4))
def test_whatever_happens_while_a_pack_is_written_what_is_believed_can_be_read(
    turns: list[tuple[str, int]], places: list[int]
) -> None:
    store = fill(Store(f"memory://{uuid.uuid4().hex}"))
    waiting = dict(zip(places, turns, strict=False))
    calls, inside = 0, False

    def between(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(self: files.Folder, *arguments: Any) -> Any:
            nonlocal calls, inside
            if inside:
                return real(self, *arguments)
            calls += 1
            inside = True
            if (turn := waiting.pop(calls, None)) is not None:
                take(store, *turn)
            inside = False
            return real(self, *arguments)

        return called

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_many", "write", "remove", "sizes"):
            patch.setattr(files.Folder, name, between(getattr(files.Folder, name)))
        store.compact(KEY, UNITS)
    truth = {unit: store.unit_status(KEY, unit) for unit in UNITS}
    assert store.unit_statuses(KEY, UNITS) == truth
    committed = [unit for unit in UNITS if truth[unit] == "committed"]
    expected = [store.record(KEY, unit) for unit in committed]
    assert list(store.records(KEY, UNITS)) == expected
    for record in expected:
        assert isinstance(record, UnitRecord)
        store.check(KEY, record)
    list(store.read_units(KEY, ["tokens"], committed) if committed else ())


def take(store: Store, what: str, number: int) -> None:
    if what == "discard":
        store.discard(KEY, UNITS[number])
    elif what == "put":
        store.discard(KEY, UNITS[number])
        put(store, UNITS[number], 50.0 + number, 2.0)
    else:
        store.compact(KEY, UNITS)


def test_gc_takes_packs_first_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    store.compact(KEY, UNITS)
    other = step_key("audits", {"checkpoint": "abc"})
    with in_use(store, new_record("s", "s-1", {}, [other.path]), print):
        store.commit(other, "result", {"audit": pl.DataFrame({"passed": [True]})}, "x")
    found = survey(store, timedelta(days=7))
    (garbage,) = found.garbage
    assert garbage.step == KEY.path and list(garbage.files[:2]) == [FIRST, SECOND]
    assert garbage.files[-1] == "manifest.json" and garbage.files[2].startswith("_commits/")
    collect(store, found)
    assert not [name for name in store.folder.sizes() if name.startswith(KEY.path)]


def test_an_import_brings_units_and_takes_away_packs_that_would_tell_of_others(store: Store, tmp_path: Path) -> None:
    source = fill(Store(tmp_path / "source"))
    source.compact(KEY, UNITS)
    fill(store)
    store.compact(KEY, UNITS)
    store.folder.remove(f"{KEY.path}/tokens/{UNITS[0]}.parquet")
    merged = merge(source, store, print)
    assert merged.copied == [f"{KEY.path}/{UNITS[0]}"] and there(store) == [SECOND]
    assert store.read(KEY, "tokens", UNITS)["value"].to_list() == source.read(KEY, "tokens", UNITS)["value"].to_list()


def test_a_manifest_of_many_units_is_small_and_old_ones_stay_readable(store: Store) -> None:
    many = [f"shard-{number:05d}" for number in range(120_000)]
    store.prepare(KEY, "x", many)
    manifest = store.manifest(KEY)
    assert manifest is not None and manifest.units == many
    data = store.folder.read(f"{KEY.path}/manifest.json")
    assert len(data) < 1000 and json.loads(data)["units"] is None
    written = store.folder.modified(f"{KEY.path}/manifest.json")
    store.prepare(KEY, "x", many)
    assert store.folder.modified(f"{KEY.path}/manifest.json") == written, "it is not written again"
    few = step_key("features", {"checkpoint": "few"})
    store.prepare(few, "x", UNITS)
    assert json.loads(store.folder.read(f"{few.path}/manifest.json"))["units"] == UNITS
