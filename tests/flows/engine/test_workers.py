"""Worker processes are forks that have what is slow to import, of a server without threads that a fork would lack."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

import pytest

from indexscope.flows.engine.forks import FORKS, prepare
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import pool, started

TWO = Spread(kind="processes", workers=2)


def _there() -> tuple[list[str], int]:
    """What is asked in a worker: the slow packages that it has, and its parent."""
    return [name for name in ("torch", "transformers", "numba", "prefect") if name in sys.modules], os.getppid()


@pytest.mark.skipif(not FORKS, reason="worker processes are not forks here")
def test_workers_have_what_they_need_from_a_server_of_one_thread() -> None:
    prepare()
    server = forkserver._forkserver._forkserver_pid
    with started(pool(TWO)) as runner:
        assert runner._executor.submit(_there).result() == (["torch", "transformers", "numba", "prefect"], server)
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1


@pytest.mark.skipif(not FORKS, reason="worker processes are not forks here")
def test_a_server_that_died_is_started_again() -> None:
    prepare()
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
    with started(pool(TWO)) as runner:
        assert runner._executor.submit(_there).result()[1] not in (server, os.getpid())


def test_a_runner_whose_worker_died_says_so() -> None:
    with started(pool(TWO)) as runner, pytest.raises(BrokenProcessPool):
        runner._executor.submit(os._exit, 1).result()
