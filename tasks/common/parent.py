"""A process that another one of this program started ends with it, however that went: nobody would take its results."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent() -> None:
    """From now on leave Ctrl-C to the parent, and end as soon as it has.

    Multiprocessing keeps a pipe to the parent, whose end comes with the parent's. Other processes watch nobody.
    """
    parent = multiprocessing.parent_process()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
