"""A terminal that goes away while a run goes on, as under nohup or when nobody hangs up."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Terminal(io.FileIO):
    """Writes to a terminal, and to nowhere once it is lost."""

    def write(self, data: Any, /) -> int:
        """As a file's; what a lost terminal refuses counts as written."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes


@contextmanager
def lasting_output() -> Iterator[None]:
    """Let stdout and stderr outlast their terminal while the block runs."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    for name, stream in before.items():
        if stream is not None and stream.isatty():
            raw = io.BufferedWriter(_Terminal(stream.fileno(), "wb", closefd=False))
            lasting = io.TextIOWrapper(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)
            setattr(sys, name, lasting)
    try:
        yield
    finally:
        for name, stream in before.items():
            if getattr(sys, name) is not stream:
                getattr(sys, name).flush()
                setattr(sys, name, stream)
