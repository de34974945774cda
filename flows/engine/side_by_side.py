"""Units of several results made side by side, each as soon as it may begin."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner

from indexscope.flows.engine.graph import Node
from indexscope.flows.engine.narrate import Bars
from indexscope.flows.engine.progress import progress_artifact
from indexscope.flows.engine.settings import Spread
from indexscope.flows.engine.units import Failure, checked, pool, result_of, started
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.step import task_of
from indexscope.tasks.common.unit import StepRecord


@dataclass(eq=False)
class _Begun:
    """A result of which units are being made."""

    node: Node
    jobs: Sequence[Job]
    advance: tuple[Callable[[], None], ...]
    queue: deque[int] = field(default_factory=deque)
    results: dict[int, StepRecord | Failure] = field(default_factory=dict)

    @property
    def in_order(self) -> list[StepRecord | Failure]:
        return [self.results[number] for number in sorted(self.results)]


class SideBySide:
    """Makes results that run models on one runner, as many units at once as it has workers.

    A result begins once those that it is made from are there, and those that come first of its model. One that is timed
    runs alone. Threads share one model, so they work on one after the other. If worker processes die, nobody knows of
    which unit: all that were lost run again one by one on a new runner, and what loses its worker then has failed.

    Args:
        nodes: The results, in the order in which they begin where all may.
        runner: How units are spread.
        failed: Names of models that have failed; what is not begun of them is left out.
        begin: Gives the jobs of a result when it begins.
        bars: Show how far each is.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        runner: Spread,
        failed: Container[str],
        begin: Callable[[Node], Sequence[Job]],
        bars: Bars,
    ) -> None:
        self._waiting, self._spread, self._failed, self._begin, self._bars = list(nodes), runner, failed, begin, bars
        self._begun: list[_Begun] = []
        self._flying: dict[PrefectFuture[Any], tuple[_Begun, int]] = {}
        self._suspects: deque[tuple[_Begun, int]] = deque()
        self._alone = False

    def run(self) -> Iterator[tuple[Node, Sequence[Job], list[StepRecord | Failure]]]:
        """Make them.

        Yields:
            Each result that was begun, once all its units are through, with its jobs and what became of them.

        Raises:
            IndexscopeError: The store refuses to be written: no other unit would fare better.
        """
        with ExitStack() as running:
            runner = running.enter_context(started(pool(self._spread)))
            while self._fill(runner):
                if self._land():
                    running.close()
                    runner = running.enter_context(started(pool(self._spread)))
                under_way = [one for one, _ in (*self._flying.values(), *self._suspects)]
                through = [one for one in self._begun if not one.queue and one not in under_way]
                self._begun = [one for one in self._begun if one not in through]
                for one in through:
                    yield one.node, one.jobs, one.in_order

    def _fill(self, runner: TaskRunner[Any]) -> bool:
        """Give every free worker a unit; whether any is in flight."""
        while len(self._flying) < self._spread.workers and (found := self._next()) is not None:
            one, number = found
            self._flying[runner.submit(task_of(one.jobs[number]), {"job": one.jobs[number]})] = found
        return bool(self._flying)

    def _next(self) -> tuple[_Begun, int] | None:
        """The next unit that may run beside what is in flight."""
        in_flight = [one.node for one, _ in self._flying.values()]
        if self._alone and in_flight:
            return None
        if self._suspects:
            self._alone = True
            return self._suspects.popleft()
        one = next((one for one in self._begun if one.queue), None) or self._opened(in_flight)
        self._alone = one is not None and one.node.step.timed
        return None if one is None else (one, one.queue.popleft())

    def _opened(self, in_flight: Sequence[Node]) -> _Begun | None:
        """The next result that may begin, begun."""
        self._waiting = [node for node in self._waiting if node.owner not in self._failed]
        node = next((node for node in self._waiting if not self._held_up(node)), None)
        if node is None:
            return None
        shared = self._spread.kind == "threads"
        if in_flight and (node.step.timed or (shared and any(one.runs != node.runs for one in in_flight))):
            return None
        self._waiting.remove(node)
        jobs = self._begin(node)
        advance = (self._bars(node.title, len(jobs)), progress_artifact(node.title, len(jobs)))
        self._begun.append(_Begun(node, jobs, advance, deque(range(len(jobs)))))
        return self._begun[-1]

    def _held_up(self, node: Node) -> bool:
        """Whether a result waits for another: one that it is made from, or that comes first of its model."""
        left = {*self._waiting, *(one.node for one in self._begun)} - {node}
        first = any(one.step.first and one.owner == node.owner for one in left) and not node.step.first
        return first or not left.isdisjoint(node.made_from)

    def _land(self) -> bool:
        """Take what became of the next unit that is through; whether the runner's processes died."""
        future = next(as_completed(list(self._flying)))
        landed = {self._flying.pop(future): (first := result_of(future))}
        if isinstance(first, BrokenExecutor):  # so all others are through as well
            landed |= {unit: result_of(other) for other, unit in self._flying.items()}
            self._flying = {}
        lost = [unit for unit, result in landed.items() if isinstance(result, BrokenExecutor)]
        if len(lost) > 1:
            self._suspects.extend(lost)
        for unit, result in landed.items():
            if unit not in self._suspects:
                self._take(unit, result)
        return bool(lost)

    def _take(self, unit: tuple[_Begun, int], result: StepRecord | BaseException) -> None:
        one, number = unit
        one.results[number] = found = checked(one.jobs[number], result)
        if isinstance(found, Failure) and found.lost_worker:
            one.queue.clear()  # each of them would take its worker, and the time of starting another
        for advance in one.advance:
            advance()
