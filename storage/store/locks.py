"""A lock that a crash releases: an advisory lock on an open file."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from indexscope.errors import IndexscopeError

try:
    import fcntl
except ImportError:  # not a POSIX system: commits still never mix silently, since markers carry checksums
    fcntl = None  # type: ignore[assignment]

#: The lock is held for a few renames, so whoever holds it for so long is stopped or waits for a dead disk.
WAIT_SECONDS = 120.0
POLL_SECONDS = 0.02
HELD = {errno.EACCES, errno.EAGAIN}


@contextlib.contextmanager
def run_lock(path: Path, remedy: str) -> Iterator[None]:
    """Hold a lock for a whole run: whoever comes second is refused at once, not kept waiting for hours.

    Args:
        path: The lock's file, which stays behind, empty.
        remedy: What the second one can do.

    Raises:
        IndexscopeError: Another process holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try(descriptor):
            raise IndexscopeError(path.parent, "is being written by another run", remedy)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between threads and processes of this machine; wait for it if need be.

    The file stays behind, empty; the lock itself ends with the process that holds it.

    Raises:
        IndexscopeError: Another process has held it for two minutes.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not _try(descriptor):
        if time.monotonic() > deadline:
            reason = f"has been locked by another process for {WAIT_SECONDS:.0f} s"
            raise IndexscopeError(path, reason, "end that process if it is stopped, and run the study again")
        time.sleep(POLL_SECONDS)


def _try(descriptor: int) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in HELD  # some network filesystems have no locks; checksums protect what remains
    return True
