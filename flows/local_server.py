"""Prefect servers that end with this program: a temporary one for a run, one with a scheduler for `serve`."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

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
#: Files of the working directory that Prefect reads settings from, and what one of these holds that has some.
FILES = {".env": b"prefect_", "prefect.toml": b"", "pyproject.toml": b"tool.prefect"}
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


class RunServer:
    """The server of one run: that of the user's settings, else a temporary one."""

    def __init__(self) -> None:
        self._own: LocalServer | None = None
        self._settings = ExitStack()

    def begin(self) -> None:
        """Start a temporary server, unless the user's settings may name one, as far as is known without Prefect.

        It takes longer to start than all else, and Prefect's settings take a second to import.
        """
        from indexscope.flows import prefect_setup  # noqa: F401 - defaults that the server is to have as well

        if not _may_be_named():
            self._own = LocalServer(APPLICATION, _free_port(), TEMPORARY)

    def settle(self) -> None:
        """Go by Prefect's settings, once they are known to be good: start a server, or stop a needless one."""
        if _named():
            self.stop()
        elif self._own is None:
            self._own = LocalServer(APPLICATION, _free_port(), TEMPORARY)

    def ready(self) -> None:
        """Wait for the server, and have everything in this process use it.

        Threads and worker processes too: each would start another.
        """
        from indexscope.flows import prefect_setup  # isort: skip - before prefect
        from prefect.context import refresh_global_settings_context
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        self.settle()
        if self._own is not None:
            self._own.wait(prefect_setup.startup_patience())
            os.environ["PREFECT_API_URL"] = self._own.url
            refresh_global_settings_context()
            # It ends with the run, and so looks for no heartbeats, for whose thread a flow waits up to a second.
            self._settings.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}))

    def restore(self) -> None:
        """Let go of the settings that `ready` made."""
        self._settings.close()

    def stop(self) -> None:
        """End a temporary server at once."""
        if self._own is not None:
            self._own.stop(at_once=True)
            self._own = None


@contextmanager
def temporary_server() -> Iterator[RunServer]:
    """Have a server for the block, unless the user's settings name one; a block that fails does not wait for it.

    Yields:
        The server, which starts while the caller does something else, until that calls its `ready`.
    """
    server = RunServer()
    try:
        server.begin()
        yield server
    except BaseException:
        server.stop()
        raise
    finally:
        server.restore()


def _named() -> bool:
    """Whether Prefect's settings name a server."""
    from prefect.settings import PREFECT_API_URL

    return bool(PREFECT_API_URL.value())


def _may_be_named() -> bool:
    """Whether the user's settings may name a server: what is asked imports nothing of Prefect."""
    if "prefect.settings" in sys.modules:
        return _named()
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    files = {profiles: b"prefect_", **{Path(name): words for name, words in FILES.items()}}
    return bool(os.environ.get("PREFECT_API_URL")) or any(_holds(file, words) for file, words in files.items())


def _holds(file: Path, words: bytes) -> bool:
    try:
        return words in file.read_bytes().lower()
    except OSError:
        return False


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
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
    return port
