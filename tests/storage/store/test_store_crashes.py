"""A crash at any instant leaves a unit committed or not, never half; the next run ends at the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from indexscope.errors import IndexscopeError
from indexscope.storage.store import files
from indexscope.storage.store.store import Store, step_key

KEY = step_key("features", {"checkpoint": "abc"})
UNIT = "shard-00000"
TABLES = {
    "attention": pl.DataFrame({"value": [1.0, 2.0]}),
    "tokens": pl.DataFrame({"value": [3.0, 4.0, 5.0]}),
}


class Stopped(BaseException):
    """The machine stopping in the middle of things."""


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.folder.read(name) for name in store.folder.sizes()}


def nth(calls: int, act: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    """Act as ever, but do something else instead of the n-th call."""
    count = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return then() if count == calls else act(*args, **kwargs)

    return wrapped


def stop() -> None:
    raise Stopped


def disk_full() -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    store.commit(KEY, UNIT, TABLES, "x")
    return contents(store)


def check_then_resume(store: Store, undisturbed: dict[str, bytes]) -> bool:
    """Assert that what is visible is whole, commit again, and assert the same bytes as without the crash."""
    status = store.unit_status(KEY, UNIT)
    if status == "committed":
        for table, frame in TABLES.items():
            assert_frame_equal(store.read(KEY, table), frame)
    else:
        assert status == "missing"
        with pytest.raises(IndexscopeError):
            store.read(KEY, "tokens")
    store.commit(KEY, UNIT, TABLES, "x")
    assert contents(store) == undisturbed
    return status == "committed"


@pytest.mark.parametrize("failure", [stop, disk_full])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_commit_that_fails_at_any_call_leaves_no_half_unit(
    function: str,
    failure: Callable[[], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, bytes],
) -> None:
    committed = []
    for call in range(1, 100):
        store = Store(tmp_path / f"{function}-{call}")
        monkeypatch.setattr(os, function, nth(call, getattr(os, function), failure))
        try:
            store.commit(KEY, UNIT, TABLES, "x")
        except (Stopped, IndexscopeError) as error:
            told = str(error)
            monkeypatch.undo()
        else:
            monkeypatch.undo()
            break
        assert failure is stop or "No space left on device" in told
        leftovers = [path.name for path in Path(store.url).rglob("*.tmp")]
        assert leftovers == []
        committed.append(check_then_resume(store, undisturbed))
    # Four renames: manifest, two tables, marker. The unit shows only once the last of them is done.
    assert len(committed) == 4 if function == "replace" else len(committed) > 8
    assert not any(committed[:-1])


def test_a_crash_without_any_cleaning_up_leaves_no_half_unit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    for call in range(1, 5):
        store = Store(tmp_path / str(call))
        monkeypatch.setattr(os, "replace", nth(call, os.replace, stop))
        monkeypatch.setattr(files._LocalStaged, "discard", lambda self: None)
        with pytest.raises(Stopped):
            store.commit(KEY, UNIT, TABLES, "x")
        monkeypatch.undo()
        assert list(Path(store.url).rglob("*.tmp"))
        assert not check_then_resume(store, undisturbed)


def test_a_bucket_that_fails_at_any_put_shows_no_half_unit(
    monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    for call in range(1, 5):
        store = Store(f"memory://{uuid.uuid4().hex}")
        put = type(store.folder.fs).pipe_file
        monkeypatch.setattr(type(store.folder.fs), "pipe_file", nth(call, put, disk_full))
        with pytest.raises(OSError, match="No space"):
            store.commit(KEY, UNIT, TABLES, "x")
        monkeypatch.undo()
        assert not check_then_resume(store, undisturbed)


def test_mending_a_damaged_unit_never_mixes_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    # The old files come from another version of the libraries: same numbers, other bytes.
    old = {table: frame.with_columns(note=pl.lit("old")) for table, frame in TABLES.items()}
    for call in range(1, 4):
        store = Store(tmp_path / str(call))
        store.commit(KEY, UNIT, old, "x")
        store.folder.remove(f"{KEY.path}/tokens/{UNIT}.parquet")
        monkeypatch.setattr(os, "replace", nth(call, os.replace, stop))
        with pytest.raises(Stopped):
            store.commit(KEY, UNIT, TABLES, "x")
        monkeypatch.undo()
        assert not check_then_resume(store, undisturbed)


KILLED = """
import os, sys
import polars as pl
from indexscope.storage.store.store import Store, step_key
calls, replace = 0, os.replace
def kill(*args):
    global calls
    calls += 1
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    replace(*args)
os.replace = kill
tables = {"attention": pl.DataFrame({"value": [1.0, 2.0]}), "tokens": pl.DataFrame({"value": [3.0, 4.0, 5.0]})}
Store(sys.argv[1]).commit(step_key("features", {"checkpoint": "abc"}), "shard-00000", tables, "x")
"""


@pytest.mark.parametrize("call", [1, 3, 4])
def test_a_killed_run_resumes_to_identical_bytes(call: int, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(call)]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == -9, ended.stderr
    assert not check_then_resume(Store(tmp_path), undisturbed)


def test_runs_that_commit_the_same_unit_at_once_never_mix(tmp_path: Path) -> None:
    # Not even if their bytes differ, as on a device whose sums depend on the order of additions.
    for attempt in range(10):
        store = Store(tmp_path / str(attempt))
        barrier = threading.Barrier(6)

        def work(number: int, store: Store = store, barrier: threading.Barrier = barrier) -> None:
            frame = pl.DataFrame({"value": [float(number)]})
            barrier.wait()
            store.commit(KEY, UNIT, {"a": frame, "b": frame, "c": frame}, "x")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        values = {store.read(KEY, table)["value"].item() for table in ("a", "b", "c")}
        assert len(values) == 1
