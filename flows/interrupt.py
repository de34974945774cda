"""What Ctrl-C does: one line at once, and then no second interrupt may disturb the tidying up."""

from __future__ import annotations

import signal
import sys
import threading
from functools import cache

#: Set when an interrupt left worker threads running: an ordinary exit would wait for them.
abandoned = threading.Event()


@cache
def tell_interrupted() -> None:
    """Say, the first time, that the run was interrupted and how to resume."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("interrupted: what is finished is kept; to resume, run the same command again", file=sys.stderr, flush=True)
