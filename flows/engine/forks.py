"""What worker processes come from: on Linux forks of one server that has imported what all of them need.

Imports no Prefect, so that the server can begin while this process still reads the study.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

PRELOAD = "indexscope.flows.engine.preload"
#: Systems' libraries elsewhere start threads of their own, which no fork takes along.
FORKS = sys.platform == "linux" and "forkserver" in multiprocessing.get_all_start_methods()


def prepare() -> None:
    """Start what worker processes come from; where they are forks the server begins to import, which takes seconds.

    Harmless where it runs already.
    """
    with _environment(PYTHONWARNINGS=_warnings()):
        resource_tracker.ensure_running()  # without its word on what a kill left
    if FORKS:
        # It finds no modules in the working directory, and numpy starts no threads: the workers share the cores anyway.
        with no_interrupt(), _environment(PYTHONSAFEPATH="1", OPENBLAS_NUM_THREADS="1"):
            forkserver.set_forkserver_preload([PRELOAD])
            forkserver.ensure_running()


@contextmanager
def no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back from what is started: each process would tell of it, at length, until `start_worker` has run."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread, and of what it starts
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _warnings() -> str:
    return ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker:UserWarning"]))


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """The environment of processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
