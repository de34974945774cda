"""Units of work through Prefect: submitted to a runner, waited for, and gathered with their failures."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

from prefect.exceptions import TerminationSignal
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from indexscope import IndexscopeError
from indexscope.errors import one_line
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.workers import WorkerPool
from indexscope.flows.interrupt import settle
from indexscope.storage.store.store import DamagedUnit
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.step import start_worker
from indexscope.tasks.common.unit import StepRecord


@dataclass(frozen=True)
class Failure:
    """A unit of work that failed after its retries.

    Attributes:
        title: What people call the unit.
        reason: Why, in one line.
        bad_input: Whether it met something that the user can put right; the reason then says how.
        lost_worker: Whether the process that worked on it is gone, and with it the runner.
    """

    title: str
    reason: str
    bad_input: bool = False
    lost_worker: bool = False

    @property
    def line(self) -> str:
        """What is told of it."""
        return f"{self.title}: {self.reason}" if self.bad_input else f"{self.title} failed: {self.reason}"


class UnitsFailed(Exception):
    """Some units of a step failed after retries; the rest is in the store.

    Args:
        step: What people call the step.
        failures: The units and why, at least one.
        total: Units of the step.
    """

    def __init__(self, step: str, failures: Sequence[Failure], total: int) -> None:
        super().__init__(f"{step}: {len(failures)} of {total} failed")
        self.step, self.failures, self.total = step, tuple(failures), total

    @property
    def bad_input(self) -> bool:
        """Whether something has to be put right before it is run again."""
        return any(failure.bad_input for failure in self.failures)

    @property
    def reason(self) -> str:
        """Why, in one line: what has to be put right, else the first unit."""
        first = next((failure for failure in self.failures if failure.bad_input), self.failures[0])
        if first.bad_input or self.total == 1:
            return first.line
        return f"{len(self.failures)} of {self.total} units failed ({self.step}); {first.line}"


class ModelsFailed(Exception):
    """Steps of some models failed; those of the others are in the store.

    Args:
        failures: What failed of each, by name; at least one.
    """

    def __init__(self, failures: Mapping[str, UnitsFailed]) -> None:
        super().__init__(", ".join(failures))
        self.failures = dict(failures)


def checked(job: Job, result: StepRecord | BaseException) -> StepRecord | Failure:
    """What became of a job.

    Raises:
        IndexscopeError: The store refuses to be written: no other job would fare better.
    """
    if isinstance(result, StepRecord):
        return result
    if _is_of_store(result, job.target.store):
        raise result
    return _failure(job.title, result)


def _is_of_store(result: BaseException, store: str) -> TypeGuard[IndexscopeError]:
    """Whether the store itself refuses, a full disk for instance, rather than that one unit of it is damaged."""
    if not isinstance(result, IndexscopeError) or isinstance(result, DamagedUnit):
        return False
    place = one_line(store).rstrip("/")
    return result.where == place or result.where.startswith(f"{place}/")


def _failure(title: str, error: BaseException) -> Failure:
    if isinstance(error, IndexscopeError):
        return Failure(title, str(error), bad_input=True)
    reason = one_line(f"{type(error).__name__}: {error}")
    return Failure(title, reason, lost_worker=isinstance(error, BrokenExecutor))


def threads(workers: int) -> TaskRunner[Any]:
    """A runner of threads; Prefect's own default has no limit."""
    return ThreadPoolTaskRunner(max_workers=workers)


def pool(spread: Spread) -> TaskRunner[Any]:
    """The runner, not yet started."""
    if spread.kind == "processes":
        quiet = os.environ.get("PREFECT_LOGGING_LEVEL") == "WARNING"
        return WorkerPool(max_workers=spread.workers, initializer=start_worker, initargs=(quiet,))
    if spread.kind == "ray":
        from indexscope.flows.engine.clusters import RayPool  # an extra, which other runners do without

        return RayPool(spread)
    return threads(spread.workers)


@contextmanager
def started(runner: TaskRunner[Any]) -> Iterator[TaskRunner[Any]]:
    """A started runner, that an interrupt leaves at once: units in flight are invisible until they are committed."""
    runner.__enter__()
    try:
        yield runner
    except (KeyboardInterrupt, TerminationSignal):  # the latter is what Prefect makes of SIGTERM while a flow runs
        settle()
        if not isinstance(runner, ThreadPoolTaskRunner):  # for threads nobody may wait: they cannot be stopped
            for child in multiprocessing.active_children() if isinstance(runner, WorkerPool) else ():
                child.terminate()
            runner.__exit__(*sys.exc_info())
        raise
    except BaseException:
        runner.__exit__(*sys.exc_info())
        raise
    runner.__exit__(None, None, None)


def result_of(future: PrefectFuture[Any]) -> StepRecord | BaseException:
    """What became of a unit; waits for it."""
    try:
        future.wait()
    except Exception as error:  # a worker process that died takes the future down with it
        return error
    result = future.state.result(raise_on_failure=False)
    return result if isinstance(result, StepRecord | BaseException) else RuntimeError(f"ended {future.state.name}")
