"""Prefect's settings for people at a terminal. Import this before prefect: it reads them while it is imported.

Every default gives way to the user's own environment variable.
"""

from __future__ import annotations

import logging
import os

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


def startup_patience() -> float:
    """Seconds that a temporary server has to start."""
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS

    return float(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())


configure()
