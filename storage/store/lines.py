"""A file of JSON lines that is only ever added to, and of which a crash costs the last line at most."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from indexscope.errors import IndexscopeError
from indexscope.foreign import words
from indexscope.storage.store.files import make_folders
from indexscope.storage.store.json_types import JSON
from indexscope.storage.store.locks import run_lock


class Lines:
    """Lines that are on the disk once `add` returns.

    Args:
        file: The file, open for adding.
        known: What it held when it was opened.
    """

    def __init__(self, file: IO[bytes], known: list[dict[str, JSON]]) -> None:
        self._file, self.known = file, known

    def add(self, line: Mapping[str, JSON]) -> None:
        """Add one line."""
        self._file.write(json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_lines(path: Path) -> Iterator[Lines]:
    """Open a file, made where there is none, for one writer at a time; what a crash left of a last line is cut off.

    Raises:
        IndexscopeError: It cannot be written, or a line before the last is damaged.
    """
    try:
        make_folders(path.parent)
        with (
            run_lock(path.with_suffix(".lock"), "wait until it ends, or choose another folder"),
            path.open("a+b") as file,
        ):
            file.seek(0)
            content = file.read()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                file.truncate(len(whole))
            yield Lines(file, [_read(line, path, number) for number, line in enumerate(whole.splitlines(), 1)])
    except OSError as error:
        raise IndexscopeError(path, f"cannot be written ({words(error)})", "choose another folder") from error


def _read(line: bytes, path: Path, number: int) -> dict[str, JSON]:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise IndexscopeError(f"{path}:{number}", "is damaged", "remove the file; the search then begins anew")
    return found
