"""Work whose runs of a model are to be served together: each in a thread of its own, one at a time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Abandoned(BaseException):
    """Ends work whose result nobody waits for any more."""


class Worker(Generic[T]):
    """A thread that runs only while somebody waits for it to park or end.

    Args:
        work: What it does.
    """

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._go, self._parked = threading.Semaphore(0), threading.Semaphore(0)
        self._abandoned = False
        self.ended = False
        self.result: T | None = None
        self.error: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), daemon=True)
        self._started = False

    def resume(self) -> None:
        """Let it run until it parks or ends."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._go.release()
        self._parked.acquire()

    def park(self) -> None:
        """Called by the work itself: wait to be resumed."""
        self._parked.release()
        self._go.acquire()
        if self._abandoned:
            raise Abandoned

    def abandon(self) -> None:
        """End it where it is parked."""
        if self._started and not self.ended:
            self._abandoned = True
            self._go.release()
            self._thread.join()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self._abandoned:
                _local.worker = self
                self.result = self._work()
        except Abandoned:
            pass
        except BaseException as error:  # handed to whoever waits
            self.error = error
        finally:
            self.ended = True
            self._parked.release()


_local = threading.local()


def this_worker() -> Worker[object] | None:
    """The worker whose thread this is."""
    found: Worker[object] | None = getattr(_local, "worker", None)
    return found


def side_by_side(works: Sequence[Callable[[], T]], serve: Callable[[], None]) -> list[T]:
    """Do all works, and serve what they wait for whenever all of them wait.

    Args:
        works: What is to be done; each may park its worker (`this_worker`).
        serve: Called while all are parked or ended, and not all ended.

    Returns:
        Their results, in order.

    Raises:
        BaseException: What the first work that failed raised; the others are ended.
    """
    workers = [Worker(work) for work in works]
    waiting = list(workers)
    try:
        while waiting:
            for worker in waiting:
                worker.resume()
                if worker.error is not None:
                    raise worker.error
            waiting = [worker for worker in waiting if not worker.ended]
            if waiting:
                serve()
    finally:
        for worker in workers:
            worker.abandon()
    return [worker.result for worker in workers]  # type: ignore[misc]  # all ended without an error
