"""What steps say in Prefect's log while they run."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress


def tell(news: str, level: int = logging.INFO) -> None:
    """Say something in Prefect's log, where there is one."""
    if "prefect" not in sys.modules:  # nor is it worth the seconds that it takes to import
        return
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    with suppress(MissingContextError):
        get_run_logger().log(level, "%s", news)
