"""The last commit of a pass: the old one or the new one, whole, and none of what it is not."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from indexscope.storage.store.files import STALE_SECONDS
from indexscope.storage.store.passes import (
    FORMAT,
    LINE,
    Standing,
    forget,
    pass_file,
    reading,
    standing,
    units_of,
    writing,
)
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.records import new_record
from indexscope.storage.upkeep.collect import collect, survey
from indexscope.storage.upkeep.verify import verify

KEY, UNIT = step_key("features", {"checkpoint": "abc"}), "shard-00003"
TABLE = {"tokens": pl.DataFrame({"nll": [1.5]})}


def told(layer: int) -> Standing:
    return Standing("code", "sequences", layer, 61)


def put(store: Store, layer: int, data: bytes = b"states", unit: str = UNIT) -> None:
    with writing(store, KEY, unit, "base", told(layer)) as file:
        file.write(data)


def got(store: Store) -> tuple[Standing | None, bytes | None]:
    with reading(store, KEY, UNIT) as (found, file):
        return found, None if file is None else file.read()


def test_the_last_commit_is_read_as_it_was_written_until_it_is_forgotten(store: Store) -> None:
    assert got(store) == (None, None) and units_of(store, KEY) == []
    put(store, 3, b"a" * 5000)
    put(store, 17)
    assert got(store) == (told(17), b"states")
    assert standing(store, KEY, UNIT) == told(17)
    assert units_of(store, KEY) == [UNIT]
    forget(store, KEY, UNIT)
    assert got(store) == (None, None) and units_of(store, KEY) == []
    forget(store, KEY, UNIT)


def test_a_commit_that_is_cut_off_leaves_the_one_before_it(local_store: Store) -> None:
    put(local_store, 3)

    def cut_off() -> None:
        with writing(local_store, KEY, UNIT, "base", told(4)) as file:
            file.write(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_off()
    assert got(local_store) == (told(3), b"states")
    folder = Path(local_store.folder.root, KEY.path, "_passes")
    assert [one.name for one in folder.iterdir()] == [f"{UNIT}.pass"]
    (folder / f".{UNIT}.pass.tmp").write_bytes(b"of one that was killed")
    forget(local_store, KEY, UNIT)
    assert not folder.exists()


def test_a_file_of_anything_else_tells_nothing(store: Store) -> None:
    whole = {"format": FORMAT, **vars(told(1))}
    others = ({"format": FORMAT}, {**whole, "format": FORMAT - 1}, {**whole, "over": [1]}, {**whole, "layer": 62})
    for data in (b"", b"[]", b"{}", *(json.dumps(other).encode() for other in others)):
        store.folder.child(KEY.path).write(pass_file(UNIT), data)
        assert standing(store, KEY, UNIT) is None


def test_what_earlier_passes_came_to_is_kept_to_the_bit_and_never_cut_off(store: Store) -> None:
    over = {"first": {"change": 0.1 + 0.2, "future": 3, "known": True}}
    with writing(store, KEY, UNIT, "base", replace(told(3), over=over)) as file:
        file.write(b"states")
    found, data = got(store)
    assert found is not None and found.over == over and data == b"states"
    long = replace(told(4), over={"first": "x" * LINE})
    with pytest.raises(ValueError, match="too long"), writing(store, KEY, UNIT, "base", long):
        pytest.fail("nothing can be written")
    assert standing(store, KEY, UNIT) == found


def test_it_counts_as_no_result(store: Store) -> None:
    put(store, 3)
    assert store.units(KEY) == [] and store.unit_status(KEY, UNIT) == "missing"
    assert store.list_steps()["units"].to_list() == [0]
    store.commit(KEY, "shard-00000", TABLE, "base")
    assert store.tables(KEY) == ["tokens"]
    summary = verify(store, lambda finding: pytest.fail(str(finding)))
    assert (summary.units, summary.leftovers) == (1, 1)


def test_gc_takes_it_once_its_unit_is_whole_or_nobody_has_gone_on_for_a_day(local_store: Store) -> None:
    now = datetime.now(UTC)
    record = replace(new_record("mine", "mine", {"base": KEY.path}, [KEY.path]), seen=now, ended=now)
    local_store.folder.write(record.file, record.encode())
    for unit in ("shard-00001", "shard-00002", "shard-00003"):
        put(local_store, 3, unit=unit)
    local_store.commit(KEY, "shard-00001", TABLE, "base")
    past = time.time() - STALE_SECONDS - 60
    os.utime(Path(local_store.folder.root, KEY.path, pass_file("shard-00002")), (past, past))
    found = survey(local_store, timedelta(0))
    assert [name for part in found.garbage for name in part.files] == [
        pass_file("shard-00001"), pass_file("shard-00002")
    ]  # fmt: skip
    collect(local_store, found)
    assert units_of(local_store, KEY) == ["shard-00003"]
