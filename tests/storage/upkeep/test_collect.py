"""gc deletes what no study refers to, and nothing else, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store.keys import SCHEMA_VERSION
from indexscope.storage.store.store import StepKey, Store, step_key
from indexscope.storage.studies import records
from indexscope.storage.studies.records import ALIVE, COLLECTING, Notice, StudyRecord, in_use, new_record, read_records
from indexscope.storage.upkeep.collect import collect, counting, survey

NOTHING = timedelta(0)
FEATURES = {name: step_key("features", {"checkpoint": name}) for name in ("used", "stray", "other")}
TABLE = pl.DataFrame({"value": [1.0, 2.0]})


def fill(store: Store, *names: str) -> None:
    for name in names:
        for unit in ("shard-00000", "shard-00001"):
            store.commit(FEATURES[name], unit, {"tokens": TABLE}, label=f"label of {name}")


def record(*names: str, study: str = "mine", days: float = 0, complete: bool = True) -> StudyRecord:
    """A run that ended some days ago."""
    seen = datetime.now(UTC) - timedelta(days=days)
    made = new_record(study, study, {"base": FEATURES[names[0]].path}, [FEATURES[name].path for name in names])
    return replace(made, started=seen, seen=seen, ended=seen, complete=complete)


def keep(store: Store, *records: StudyRecord) -> None:
    for one in records:
        store.folder.write(one.file, one.encode())


def names_of(store: Store, key: StepKey) -> list[str]:
    return [name for name in store.folder.sizes() if name.startswith(key.path)]


def stale(*files: Path) -> None:
    past = time.time() - 2 * 24 * 3600
    for file in files:
        os.utime(file, (past, past))


def steps(found: Sequence[object]) -> list[str]:
    return [part.step for part in found]  # type: ignore[attr-defined]


def test_only_the_step_that_no_study_refers_to_goes(store: Store) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"))
    before = {name: store.folder.read(name) for name in names_of(store, FEATURES["used"])}
    size = sum(store.folder.sizes(FEATURES["stray"].path).values())

    found = survey(store, NOTHING)
    assert (steps(found.garbage), found.bytes, found.kept) == ([FEATURES["stray"].path], size, 1)
    assert found.garbage[0].label == "label of stray"
    assert len(names_of(store, FEATURES["stray"])) == 5  # a survey changes nothing

    assert collect(store, found) == list(found.garbage)
    assert names_of(store, FEATURES["stray"]) == []
    assert {name: store.folder.read(name) for name in names_of(store, FEATURES["used"])} == before
    assert survey(store, NOTHING).garbage == ()


def test_local_folders_of_a_deleted_step_go_but_what_is_not_ours_stays(local_store: Store) -> None:
    fill(local_store, "used", "stray", "other")
    keep(local_store, record("used"))
    stray, other = (Path(local_store.folder.root, FEATURES[name].path) for name in ("stray", "other"))
    (other / "tokens" / "notes.txt").write_text("mine")
    collect(local_store, survey(local_store, NOTHING))
    assert not stray.exists()
    assert [path.name for path in other.rglob("*") if path.is_file()] == ["notes.txt"]


def test_what_counts_is_the_newest_run_the_newest_complete_one_and_the_recent_ones() -> None:
    now = datetime.now(UTC)
    oldest = record("used", days=40)
    complete = record("stray", days=30)
    failed = record("other", days=20, complete=False)
    assert counting([oldest, complete, failed], timedelta(days=7), now) == [failed, complete]
    assert set(counting([oldest, complete, failed], timedelta(days=35), now)) == {failed, complete}
    assert set(counting([oldest, complete, failed], timedelta(days=41), now)) == {oldest, complete, failed}


def test_a_run_is_alive_until_it_ends_or_is_silent_for_long() -> None:
    now = datetime.now(UTC)
    running = replace(record("used"), seen=now, ended=None)
    assert running.is_running(now)
    assert running.is_running(now + ALIVE - timedelta(seconds=1))
    assert not running.is_running(now + ALIVE)
    assert not replace(running, ended=now).is_running(now)
    # An older run than the newest counts only because it lives.
    newer = record("stray", days=-1)
    assert set(counting([running, newer], NOTHING, now)) == {running, newer}
    assert counting([running, newer], NOTHING, now + 2 * ALIVE) == [newer]


def test_a_run_is_on_record_while_it_runs_and_afterwards(store: Store) -> None:
    fill(store, "used", "stray")
    mine = new_record("mine", "mine", {}, [FEATURES["used"].path])
    with in_use(store, mine, pytest.fail) as made:
        (during,) = read_records(store)
        assert during == mine
        assert survey(store, NOTHING).running == ("mine",)
        made()
    (after,) = read_records(store)
    assert (after.complete, after.ended is not None, after.steps) == (True, True, mine.steps)
    assert steps(survey(store, NOTHING).garbage) == [FEATURES["stray"].path]


def test_a_run_that_fails_ends_incomplete(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), in_use(store, new_record("mine", "mine", {}, []), pytest.fail):
        _ = 1 / 0
    (after,) = read_records(store)
    assert after.ended is not None and not after.complete


def test_a_run_gives_signs_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BEAT_SECONDS", 0.01)
    mine = new_record("mine", "mine", {}, [])
    with in_use(store, mine, pytest.fail):
        limit = time.monotonic() + 20
        while read_records(store)[0].seen == mine.seen and time.monotonic() < limit:
            time.sleep(0.01)
        assert read_records(store)[0].seen > mine.seen


def test_what_a_study_begins_to_use_after_the_survey_is_spared(store: Store) -> None:
    fill(store, "used", "stray", "other")
    keep(store, record("used"))
    found = survey(store, NOTHING)
    assert len(found.garbage) == 2
    keep(store, replace(record("stray", study="new"), ended=None))
    assert steps(collect(store, found)) == [FEATURES["other"].path]
    assert len(names_of(store, FEATURES["stray"])) == 5


def test_forgetting_a_study_frees_what_it_alone_used(store: Store) -> None:
    fill(store, "used", "stray", "other")
    keep(store, record("used", "other"), record("stray", "other", study="theirs"))
    assert survey(store, NOTHING).garbage == ()
    found = survey(store, NOTHING, forget=["theirs"])
    assert steps(found.garbage) == [FEATURES["stray"].path]
    collect(store, found)
    assert [one.study for one in read_records(store)] == ["mine"]
    with pytest.raises(IndexscopeError, match="knows no study 'theirs'; choose one of its studies: mine"):
        survey(store, NOTHING, forget=["theirs"])


def test_a_study_that_is_run_again_after_it_was_forgotten_is_spared(store: Store) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"), record("stray", study="theirs"))
    found = survey(store, NOTHING, forget=["theirs"])
    again = replace(record("stray", study="theirs"), ended=None)
    keep(store, again)
    assert collect(store, found) == []
    assert again in read_records(store)


def test_a_running_study_is_not_forgotten(store: Store) -> None:
    fill(store, "used")
    keep(store, replace(record("used"), ended=None))
    with pytest.raises(IndexscopeError, match="mine: is running"):
        survey(store, NOTHING, forget=["mine"])


def test_a_study_waits_for_the_collector_of_its_steps_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "POLL_SECONDS", 0.01)
    notice = Notice(store, "collector", [FEATURES["used"].path])
    with in_use(store, record("stray", study="theirs"), pytest.fail):
        pass  # it uses other steps
    said, began = threading.Event(), threading.Event()

    def run() -> None:
        with in_use(store, record("used"), lambda _: said.set()):
            began.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert said.wait(20)
    # The record is there before the wait, so a collector that reads the records now spares the step.
    assert "mine" in [one.study for one in read_records(store)]
    assert not began.is_set()
    notice.close()
    assert began.wait(20)
    thread.join()


def test_a_dead_collector_is_not_waited_for_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(records, "STALE_NOTICE_SECONDS", 0.05)
    Notice(store, "dead", [FEATURES["used"].path])
    with in_use(store, record("used"), lambda _: None):
        assert store.folder.sizes(COLLECTING) == {}


def test_a_collector_that_was_held_up_deletes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"))
    found = survey(store, NOTHING)
    real, slept = time.time, [0.0]
    monkeypatch.setattr(records.time, "time", lambda: real() + slept.pop() if slept else real() + 3600)
    with pytest.raises(IndexscopeError, match="gc was held up"):
        collect(store, found)
    monkeypatch.undo()
    assert len(names_of(store, FEATURES["stray"])) == 5
    assert store.folder.sizes(COLLECTING) == {}


def test_a_deletion_that_is_cut_off_leaves_no_unit_and_is_ended_by_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"))
    from indexscope.storage.store.files import Folder

    real, removed = Folder.remove, []

    def fail(self: Folder, name: str) -> None:
        if self.root.endswith(FEATURES["stray"].digest):
            if name.endswith(".parquet"):
                raise OSError("the network is gone")
            removed.append(name)
        real(self, name)

    monkeypatch.setattr(Folder, "remove", fail)
    with pytest.raises(OSError, match="network is gone"):
        collect(store, survey(store, NOTHING))
    monkeypatch.undo()
    assert removed == ["_commits/shard-00000.json", "_commits/shard-00001.json"]
    assert store.units(FEATURES["stray"]) == []
    assert steps(collect(store, survey(store, NOTHING))) == [FEATURES["stray"].path]
    assert names_of(store, FEATURES["stray"]) == []


def test_what_a_crash_left_in_a_used_step_goes_once_it_is_old(local_store: Store) -> None:
    fill(local_store, "used")
    keep(local_store, record("used"))
    folder = Path(local_store.folder.root, FEATURES["used"].path, "tokens")
    old, young = folder / "shard-00007.parquet", folder / "shard-00008.parquet"
    old.write_bytes(b"12345")
    young.write_bytes(b"123")
    stale(old, folder / "shard-00000.parquet")
    found = survey(local_store, NOTHING)
    assert [(part.files, part.bytes, part.whole) for part in found.garbage] == [
        (("tokens/shard-00007.parquet",), 5, False)
    ]
    collect(local_store, found)
    assert {path.name for path in folder.iterdir()} == {
        "shard-00000.parquet",
        "shard-00001.parquet",
        "shard-00008.parquet",
    }


def test_a_store_without_records_is_not_emptied(store: Store) -> None:
    with pytest.raises(IndexscopeError, match="holds nothing"):
        survey(store, NOTHING)
    fill(store, "used")
    with pytest.raises(IndexscopeError, match="has no record of any study"):
        survey(store, NOTHING)


def test_steps_of_a_newer_version_stay(store: Store) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"))
    name = f"{FEATURES['stray'].path}/manifest.json"
    manifest = json.loads(store.folder.read(name))
    store.folder.write(name, json.dumps({**manifest, "schema_version": SCHEMA_VERSION + 1}).encode())
    found = survey(store, NOTHING)
    assert (found.garbage, found.newer, found.kept) == ((), 1, 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"study": "min', "is not a readable record of a study"),
        (b"[]", "is not a readable record of a study"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode(), f"store schema {SCHEMA_VERSION + 1}"),
    ],
)
def test_a_record_that_cannot_be_read_stops_everything(store: Store, content: bytes, reason: str) -> None:
    fill(store, "used", "stray")
    keep(store, record("used"))
    store.folder.write("_studies/mine/torn.json", content)
    with pytest.raises(IndexscopeError, match=reason):
        survey(store, NOTHING)
    assert len(names_of(store, FEATURES["stray"])) == 5


def test_a_store_that_cannot_be_written_is_used_without_a_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from indexscope.storage.store.files import Folder

    def refuse(*_: object) -> None:
        raise IndexscopeError("store", "cannot be written", "choose another")

    monkeypatch.setattr(Folder, "write", refuse)
    told: list[str] = []
    with in_use(store, record("used"), told.append):
        assert len(told) == 1 and "keeps no record" in told[0]
    assert store.folder.sizes() == {}


def test_a_report_without_a_failed_model_counts_until_the_study_has_run_whole(store: Store) -> None:
    fill(store, "used", "other", "stray")
    without = replace(record("other", days=2), missing=("light",))
    keep(store, record("used", days=3), without, record("stray", days=1, complete=False))
    assert survey(store, NOTHING).garbage == ()
    again = next(one for one in read_records(store) if one.missing)
    assert again == without, "what is missing is kept on record"
    keep(store, record("used", days=0))
    assert steps(survey(store, NOTHING).garbage) == sorted(FEATURES[name].path for name in ("other", "stray"))
