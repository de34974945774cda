"""Finished runs stay on record whatever is collected, damaged or written at the same time."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from indexscope.storage.store.json_types import SEAL, sealed_json
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.studies.history import FORMAT, HISTORY, add_run, finished, history_files, read_runs, studies
from indexscope.storage.studies.records import new_record
from indexscope.storage.upkeep.collect import collect, survey
from indexscope.storage.upkeep.merge import merge
from indexscope.storage.upkeep.verify import Finding, verify

START = datetime(2026, 1, 1, 3, 0, 0, 5, tzinfo=UTC)
REPORT = step_key("reports", {"study": "mine"})


def add(store: Store, day: int, value: float = 0.5, identity: str = "mine-1") -> None:
    add_run(store, "mine", identity, REPORT.path, {"value": value, "nothing": None}, START + timedelta(days=day))


def test_numbers_are_kept_once_and_every_run_by_its_end(store: Store) -> None:
    for day, value in enumerate([0.5, 0.5, 0.25, 0.5]):
        add(store, day, value)
    runs = read_runs(store, "mine-1")
    assert [run.ended for run in runs] == [START + timedelta(days=day) for day in range(4)]
    assert [run.numbers and run.numbers["value"] for run in runs] == [0.5, 0.5, 0.25, 0.5]
    assert runs[0].result == runs[1].result == runs[3].result != runs[2].result
    assert {run.report for run in runs} == {REPORT.path} and {run.problem for run in runs} == {""}
    assert len(history_files(store)) == 2 + 4
    assert studies(store) == {"mine-1": "mine"}
    assert read_runs(store, "other") == []


def test_runs_at_once_lose_nothing(store: Store) -> None:
    threads = [threading.Thread(target=add, args=(store, day, 0.5 * (day % 2))) for day in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runs = read_runs(store, "mine-1")
    assert len(runs) == 12 and not any(run.problem for run in runs)
    found: list[Finding] = []
    verify(store, found.append)
    assert found == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "its numbers are damaged"),
        (b'{"numbers": {}}', "its numbers are damaged"),
        (b"[1]", "its numbers are damaged"),
        (sealed_json({"format": FORMAT + 1, "numbers": "otherwise"}), "a newer Indexscope wrote it"),
        (None, "its numbers are gone"),
    ],
)
def test_what_cannot_be_read_is_said_and_a_run_with_that_result_mends_it(
    local_store: Store, content: bytes | None, problem: str
) -> None:
    add(local_store, 0)
    add(local_store, 1, 0.25)
    result = read_runs(local_store, "mine-1")[0].result
    file = Path(local_store.folder.root) / HISTORY / "mine-1" / f"{result}.json"
    file.unlink() if content is None else file.write_bytes(content)
    lost, kept = read_runs(local_store, "mine-1")
    assert (lost.numbers, lost.problem) == (None, problem)
    assert kept.numbers == {"value": 0.25, "nothing": None}
    if "newer" not in problem:
        add(local_store, 2)
        assert [run.problem for run in read_runs(local_store, "mine-1")] == ["", "", ""]


def test_a_changed_byte_is_found_and_named(local_store: Store) -> None:
    add(local_store, 0)
    for name in history_files(local_store):
        file = Path(local_store.folder.root) / name
        data = file.read_bytes()
        file.write_bytes(data.replace(b"0", b"1", 1))
        found: list[Finding] = []
        verify(local_store, found.append)
        assert [(one.kind, one.digest, f"{HISTORY}/mine-1/{one.file}") for one in found] == [(HISTORY, "mine-1", name)]
        file.write_bytes(data)
    assert json.loads(data)[SEAL]


def test_gc_keeps_the_history_of_collected_reports_and_drops_it_with_a_forgotten_study(store: Store) -> None:
    store.commit(REPORT, "result", {"files": pl.DataFrame({"name": ["a"]})}, "report")
    old = datetime.now(UTC) - timedelta(days=30)
    for identity in ("mine-1", "other-1"):
        record = new_record("mine" if identity == "mine-1" else "other", identity, {}, [])
        record = replace(record, started=old, seen=old, ended=old, complete=True)
        store.folder.write(record.file, record.encode())
        add(store, 0, identity=identity)
    found = survey(store, timedelta(0))
    assert [part.step for part in found.garbage] == [REPORT.path] and found.forgotten == ()
    collect(store, found)
    assert [len(read_runs(store, identity)) for identity in ("mine-1", "other-1")] == [1, 1]
    store.commit(REPORT, "result", {"files": pl.DataFrame({"name": ["a"]})}, "report")
    found = survey(store, timedelta(0), ["mine"])
    assert len(found.forgotten) == 2
    collect(store, found)
    assert [len(read_runs(store, identity)) for identity in ("mine-1", "other-1")] == [0, 1]


def test_an_import_brings_the_history_along_but_nothing_damaged(store: Store, tmp_path: Path) -> None:
    source = Store(tmp_path / "source")
    source.commit(REPORT, "result", {"files": pl.DataFrame({"name": ["a"]})}, "report")
    source.prepare(REPORT, "report", ["result"])
    add(source, 0)
    add(source, 1, 0.25)
    damaged = finished("mine", REPORT.path, {"value": 0.25, "nothing": None}, START).result
    (Path(source.folder.root) / HISTORY / "mine-1" / f"{damaged}.json").write_bytes(b"{")
    add(store, 2)
    merge(source, store, pytest.fail)
    assert [run.problem for run in read_runs(store, "mine-1")] == ["", "its numbers are gone", ""]
