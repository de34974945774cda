"""Where the command starts: signals are listened to before anything is imported that takes its time."""

from __future__ import annotations

import atexit
import gc
from typing import NoReturn

from indexscope.flows.garbage import seldom
from indexscope.flows.interrupt import listening


def main() -> NoReturn:
    """Run the command line."""
    # Last of all, the interpreter looks for cycles among a million objects of libraries, for a second.
    atexit.register(gc.freeze)
    seldom()
    with listening(to_the_end=True):
        from indexscope.flows.cli.main import main as command

        command()
