"""Prefect's settings for people at a terminal. Import this before prefect: it reads them while it is imported.

Every default gives way to the user's own environment variable.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULTS = {
    # The temporary server migrates its database on the first start: more than Prefect's 20 s on a slow disk.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    # The temporary server is stopped as soon as the run is over and then complains, with a traceback, of the last
    # events that it was still writing. Nobody reads its log; a server of the user's own keeps its own level.
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
}
RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def configure() -> None:
    """Set the defaults; unless the user chose a log level, runs then log to Prefect's API only, not to the terminal."""
    quiet = "PREFECT_LOGGING_LEVEL" not in os.environ
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if quiet:
        for name in RUN_LOGGERS:
            logging.getLogger(name).propagate = False


def start_server() -> threading.Thread:
    """Start Prefect's temporary server, if one is needed, while the caller does something else; join before a flow.

    A terminal sends Ctrl-C to every process of the group. The server must outlive it long enough to be told that the
    run was interrupted, so it inherits a signal mask that holds the interrupt back; Prefect stops it by termination.
    """
    thread = threading.Thread(target=_start_server, name="prefect-server", daemon=True)
    thread.start()
    return thread


def _start_server() -> None:
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_ENABLED

    if PREFECT_API_URL.value() or not PREFECT_SERVER_EPHEMERAL_ENABLED:
        return
    from prefect.server.api.server import SubprocessASGIServer

    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread alone, and of what it starts
    SubprocessASGIServer().start()


@contextmanager
def one_server() -> Iterator[None]:
    """Have everything in the block use the temporary server that was started, if one was.

    Worker processes would otherwise each start a server of their own, all on one database.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value() or "prefect.server.api.server" not in sys.modules:
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    with temporary_settings({PREFECT_API_URL: server.api_url} if server.running else {}):
        yield


def stop_server() -> None:
    """Stop the temporary server now rather than at exit; harmless when there is none."""
    if "prefect.server.api.server" in sys.modules:
        from prefect.server.api.server import SubprocessASGIServer

        SubprocessASGIServer().stop()


configure()
