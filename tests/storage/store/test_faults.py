"""Faults of disks and of other processes: one clear line or a unit that is simply missing, never half a unit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store import locks
from indexscope.storage.store.store import Store, step_key
from indexscope.storage.upkeep.verify import verify

pytest.importorskip("fcntl", reason="locks and file size limits are POSIX")
ROOT = Path(__file__).parents[3]
KEY = step_key("features", {"checkpoint": "abc"})
UNIT = "shard-00000"
FRAME = pl.DataFrame({"value": [1.0, 2.0]})

HOLD = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""
COMMIT = """
import sys
import polars as pl
from indexscope.storage.store.store import Store, step_key
store, key = Store(sys.argv[1]), step_key("features", {"checkpoint": "abc"})
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    store.commit(key, f"shard-{number:05}", {name: pl.DataFrame({"writer": [int(sys.argv[2])]}) for name in "abc"}, "x")
"""
FULL = """
import resource, signal, sys
import polars as pl
from indexscope.storage.store.store import Store, step_key
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
big = pl.DataFrame({"value": [hash(str(number)) for number in range(20000)]})
try:
    Store(sys.argv[1]).commit(step_key("features", {"checkpoint": "abc"}), "shard-00000", {"a": big, "b": big}, "x")
except OSError as error:
    print(error.strerror)
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def held_lock(store: Store) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the step."""
    path = Path(store.url, KEY.path, "_commits", ".lock")
    path.parent.mkdir(parents=True)
    holder = start(HOLD, path)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_a_stuck_lock_is_one_line_after_a_while_and_a_dead_one_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.2)
    store = Store(tmp_path)
    with held_lock(store) as holder:
        with pytest.raises(IndexscopeError, match="locked by another process") as caught:
            store.commit(KEY, UNIT, {"tokens": FRAME}, "x")
        assert "\n" not in str(caught.value)
        assert store.unit_status(KEY, UNIT) == "missing"
        assert not list(tmp_path.rglob("*.tmp"))
        holder.kill()
        holder.wait()
        store.commit(KEY, UNIT, {"tokens": FRAME}, "x")
    assert store.unit_status(KEY, UNIT) == "committed"


def test_two_processes_on_one_store_neither_mix_nor_double(tmp_path: Path) -> None:
    writers = [start(COMMIT, tmp_path, number) for number in range(2)]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0]
    store = Store(tmp_path)
    units = [f"shard-{number:05}" for number in range(20)]
    assert store.units(KEY) == units
    tables = [store.read(KEY, table)["writer"].to_list() for table in "abc"]
    assert len(tables[0]) == len(units)
    assert tables[0] == tables[1] == tables[2]
    findings: list[object] = []
    assert verify(store, findings.append).leftovers == 0
    assert findings == []


def test_a_file_that_does_not_fit_leaves_nothing_and_there_is_no_half_unit(tmp_path: Path) -> None:
    ended = start(FULL, tmp_path)
    said, _ = ended.communicate(timeout=60)
    assert (ended.returncode, said) == (0, "File too large\n")
    store = Store(tmp_path)
    assert store.unit_status(KEY, UNIT) == "missing"
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.parquet"))
    store.commit(KEY, UNIT, {"a": FRAME}, "x")
    assert store.read(KEY, "a").equals(FRAME)
