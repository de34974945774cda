"""Worker processes: forks of one server that has imported what all need, or, where that is unsafe, started anew."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import Self

from prefect.task_runners import ProcessPoolTaskRunner

from indexscope.flows.engine.forks import FORKS, no_interrupt, prepare


class LostWorker(BrokenExecutor):
    """The worker of one unit is gone; those of others are not, and another may take the unit.

    Args:
        reason: Why, in a line.
        began: Whether the unit may have been in work: one that waited behind another has not lost the worker.
    """

    def __init__(self, reason: str, began: bool = True) -> None:
        super().__init__(reason)
        self.began = began


class WorkerPool(ProcessPoolTaskRunner):
    """Prefect's runner, with worker processes that are started in the way that suits the system."""

    def __enter__(self) -> Self:
        prepare()
        super().__enter__()
        made = self._executor
        if FORKS and made is not None:  # no process of it has been started
            context = multiprocessing.get_context("forkserver")
            self._executor = ProcessPoolExecutor(self._max_workers, context, made._initializer, made._initargs)
        elif made is not None:
            with no_interrupt():
                made.submit(os.getpid)
        return self
