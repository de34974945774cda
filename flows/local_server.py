"""Prefect servers that end with this program: a temporary one for a run, one with a scheduler for `serve`."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from indexscope import IndexscopeError
from indexscope.flows import child

HOST, PORT = "127.0.0.1", 4200
PATIENCE = 120.0
#: Set in the environment of `indexscope serve`, whose runs end with it.
SERVED = "INDEXSCOPE_SERVED"
#: Seconds that a server has to end in good order.
GRACE = 5.0
#: As Prefect starts its own temporary server, which would outlive a run that is killed: no page and no scheduler. Types
#: of blocks, which no run here uses, are left for a server with a page to enter: a third of the first start.
TEMPORARY = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "0",
}
APPLICATION = ("uvicorn", "--log-level", "error", "--factory", "prefect.server.api.server:create_app")


class LocalServer:
    """A server that is starting or running.

    It ends with this process. It has a session of its own, or Ctrl-C would end it before the runs could tell it that
    they ended.

    Args:
        module: Module of Python and its arguments, but for host and port.
        port: Where it listens.
        environment: Variables besides those of this process.
    """

    def __init__(self, module: tuple[str, ...], port: int, environment: Mapping[str, str]) -> None:
        self.url = f"http://{HOST}:{port}/api"
        self._port = port
        command = [sys.executable, "-P", str(Path(child.__file__)), *module, "--host", HOST, "--port", str(port)]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,  # its end tells the child that this process is gone
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.stop)  # not before: Prefect writes its last events when the interpreter shuts down

    def wait(self, patience: float = PATIENCE) -> None:
        """Wait until it answers.

        Raises:
            IndexscopeError: It does not.
        """
        deadline = time.monotonic() + patience
        while not answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                remedy = "run `prefect server start` to see why, or set PREFECT_API_URL to a server that runs"
                raise IndexscopeError("prefect server", f"did not start on port {self._port}", remedy)
            time.sleep(0.1)

    def stop(self, at_once: bool = False) -> None:
        """End it, in good order unless that may take no time; harmless when it has ended."""
        (self._process.kill if at_once else self._process.terminate)()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def temporary_server() -> Iterator[Callable[[], None]]:
    """Have a server for the block, unless the user's settings name one; a block that fails does not wait for it.

    Yields:
        A function that waits for the server, which starts while the caller does something else, and has everything in
        this process use that one, threads and worker processes too: each would start another.
    """
    from indexscope.flows import prefect_setup  # isort: skip - before prefect
    from prefect.context import refresh_global_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    server = None if PREFECT_API_URL.value() else LocalServer(APPLICATION, _free_port(), TEMPORARY)

    def ready() -> None:
        if server is not None:
            server.wait(prefect_setup.startup_patience())
            os.environ["PREFECT_API_URL"] = server.url
            refresh_global_settings_context()
            # It ends with the run, and so looks for no heartbeats, for whose thread a flow waits up to a second.
            settings.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))

    try:
        with ExitStack() as settings:
            yield ready
    except BaseException:
        if server is not None:
            server.stop(at_once=True)
        raise


@contextmanager
def scheduling_server() -> Iterator[str]:
    """Have a server with a scheduler for the length of the block, and yield its API's address.

    The server of the user's Prefect settings comes first, then one that answers on Prefect's usual port; otherwise one
    is started, and ends with this process. It keeps its database where the temporary server does.

    Raises:
        IndexscopeError: No server could be started.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    configured = PREFECT_API_URL.value()
    if configured:
        yield configured
        return
    url = f"http://{HOST}:{PORT}/api"
    if not answers(url):
        LocalServer(("prefect", "server", "start"), PORT, {}).wait()
    os.environ["PREFECT_API_URL"] = url  # scheduled runs are processes of their own
    with temporary_settings({PREFECT_API_URL: url}):
        yield url


def answers(url: str) -> bool:
    """Whether the API of a Prefect server is at an address."""
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port
