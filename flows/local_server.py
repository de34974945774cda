"""A full Prefect server of one's own, for schedules: the temporary server of single runs has no scheduler."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from indexscope import IndexscopeError

HOST, PORT = "127.0.0.1", 4200
PATIENCE = 120.0


@contextmanager
def scheduling_server() -> Iterator[str]:
    """Have a server with a scheduler for the length of the block, and yield its API's address.

    The server of the user's Prefect settings comes first, then one that answers on Prefect's usual port; otherwise one
    is started, and stopped with the block. It keeps its database where the temporary server does.

    Raises:
        IndexscopeError: No server could be started.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured:
        yield configured
        return
    url = f"http://{HOST}:{PORT}/api"
    process = None if _answers(url) else _start(url)
    os.environ["PREFECT_API_URL"] = url  # scheduled runs are processes of their own
    try:
        with temporary_settings({PREFECT_API_URL: url}):
            yield url
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def _start(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(PORT)]
    # In a session of its own, or Ctrl-C would end it before the runs could tell it that they ended.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + PATIENCE
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            remedy = "run `prefect server start` to see why, or set PREFECT_API_URL to a server that runs"
            raise IndexscopeError("prefect server", f"did not start on port {PORT}", remedy)
        time.sleep(0.2)
    return process


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
