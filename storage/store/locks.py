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
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in HELD:
                return  # some network filesystems have no locks; what remains is protected by checksums
        else:
            return
        if time.monotonic() > deadline:
            reason = f"has been locked by another process for {WAIT_SECONDS:.0f} s"
            raise IndexscopeError(path, reason, "end that process if it is stopped, and run the study again")
        time.sleep(POLL_SECONDS)
