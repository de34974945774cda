"""How far a step is, as an artifact in Prefect's interface."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from indexscope.analysis.names import markdown, plain

#: A step that is done sooner has no progress to show; and how often progress is told.
PATIENCE_SECONDS = 10.0
EVERY_SECONDS = 5.0
#: What a server says that takes no artifact; nothing of a study depends on it.
REFUSALS = (httpx.HTTPError, PrefectException)


def progress_artifact(title: str, total: int) -> Callable[[], None]:
    """Show how far a step of several units is, once it has lasted a while; call what it returns once a unit."""
    started = told = time.monotonic()
    done, artifact = 0, None

    def advance() -> None:
        nonlocal done, artifact, told
        done += 1
        now = time.monotonic()
        if (
            flow_run.id is None
            or total < 2
            or now - started < PATIENCE_SECONDS
            or (done < total and now - told < EVERY_SECONDS)
        ):
            return
        told = now
        share, words = 100 * done / total, f"{markdown(plain(title))}: {done} of {total}"
        try:
            if artifact is None:
                artifact = create_progress_artifact(share, description=words)
            else:
                update_progress_artifact(artifact, share, description=words)
        except REFUSALS as error:
            logging.getLogger(__name__).debug("Prefect took no progress: %s", error)

    return advance
