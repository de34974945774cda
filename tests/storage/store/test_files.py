"""Files appear whole or not at all, on a disk and elsewhere."""

from __future__ import annotations

import errno
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from indexscope.errors import IndexscopeError
from indexscope.storage.store import files
from indexscope.storage.store.files import Folder, open_store


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return open_store(tmp_path / "folder" if request.param == "local" else f"memory://{uuid.uuid4().hex}")


class Stopped(BaseException):
    """The machine stopping in the middle of things."""


def stop(*_: Any, **__: Any) -> None:
    raise Stopped


def test_opening_creates_nothing(tmp_path: Path) -> None:
    open_store(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_read(folder: Folder) -> None:
    folder.write("a/b/c.bin", b"12345")
    assert folder.read("a/b/c.bin") == b"12345"
    assert folder.size("a/b/c.bin") == 5
    assert folder.exists("a/b/c.bin")
    assert not folder.exists("a/b")
    assert folder.sizes() == {"a/b/c.bin": 5}
    assert folder.child("a").sizes("b") == {"b/c.bin": 5}


def test_what_is_not_there_has_no_size(folder: Folder) -> None:
    assert folder.size("nothing") is None
    assert folder.sizes() == {}
    assert folder.modified("nothing") is None
    folder.remove("nothing")
    with pytest.raises(FileNotFoundError):
        folder.read("nothing")


def test_the_time_of_writing_is_known_in_utc(folder: Folder) -> None:
    folder.write("a", b"1")
    written = folder.modified("a")
    assert written is not None
    assert abs(written.timestamp() - time.time()) < 60


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_store(tmp_path)
    folder.write("a", b"old")
    monkeypatch.setattr(Path if step == "open" else os, step, stop)
    with pytest.raises(Stopped):
        folder.write("a", b"new")
    monkeypatch.undo()
    assert folder.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_passing_io_error_stays_one_so_that_it_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        open_store(tmp_path).write("a", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_store_below_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(IndexscopeError, match="cannot be written") as caught:
        open_store(tmp_path / "file" / "store").write("a", b"1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
        ("a\0b", "embedded null byte"),
    ],
)
def test_reading_below_what_is_no_folder_is_one_clear_line(tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(IndexscopeError) as caught:
        open_store(tmp_path / place).read("a")
    assert str(caught.value).endswith(f": cannot be read ({said}); give a folder that you may read")
    with pytest.raises(IndexscopeError, match="cannot be written"):
        open_store(tmp_path / place).write("a", b"1")


def test_a_place_where_no_folder_can_be_made_is_one_clear_line() -> None:
    with pytest.raises(IndexscopeError) as caught:
        open_store("/proc/nope").write("a", b"1")
    line = "/proc/nope: cannot be written (No such file or directory); choose a folder that you may write to"
    assert str(caught.value) == line


def test_a_full_disk_is_named_though_the_error_has_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, None)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(IndexscopeError) as caught:
        open_store(tmp_path).write("a", b"1")
    assert "cannot be written (No space left on device); free some space" in str(caught.value)


def test_a_folder_where_a_file_belongs_is_one_clear_line(folder: Folder) -> None:
    if not folder.is_local:
        pytest.skip("a bucket has no folders")
    folder.write("a/b", b"1")
    with pytest.raises(IndexscopeError, match="Is a directory"):
        folder.read("a")
    with pytest.raises(IndexscopeError, match="Is a directory"):
        folder.write("a", b"1")


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "", "  "])
def test_an_unusable_url_is_one_clear_line(url: str) -> None:
    with pytest.raises(IndexscopeError) as caught:
        open_store(url)
    assert "\n" not in str(caught.value)


def test_leftovers_of_dead_runs_are_swept_and_those_of_live_ones_are_not(tmp_path: Path) -> None:
    old, new, other = tmp_path / ".a.1.tmp", tmp_path / ".a.2.tmp", tmp_path / "a.tmp"
    for path in (old, new, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, time.time() - files.STALE_SECONDS - 1))
    open_store(tmp_path).remove_stale()
    assert sorted(path.name for path in tmp_path.iterdir()) == [new.name, other.name]


def test_hidden_files_are_not_listed(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    folder.write("a", b"1")
    folder.stage("b", b"2")
    assert folder.sizes() == {"a": 1}


def test_the_lock_lets_one_thread_in_at_a_time(tmp_path: Path) -> None:
    folder = open_store(tmp_path)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with folder.lock(".lock"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.005)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
