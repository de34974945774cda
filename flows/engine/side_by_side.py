"""Units of several results made side by side, each as soon as it may begin."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence, Set
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
from indexscope.flows.engine.workers import LostWorker
from indexscope.storage.store.store import DamagedUnit
from indexscope.tasks.common.declared import Job
from indexscope.tasks.common.step import task_of
from indexscope.tasks.common.unit import StepRecord

#: Times that a unit which lost its worker on a cluster is given to another.
ELSEWHERE = 2
Begun = tuple[Sequence[Job], Mapping[int, StepRecord]]


@dataclass(eq=False)
class _Begun:
    """A result of which units are being made."""

    node: Node
    given: Sequence[Job]
    advance: tuple[Callable[[], None], ...]
    queue: deque[int] = field(default_factory=deque)
    results: dict[int, StepRecord | Failure] = field(default_factory=dict)
    again: dict[int, Job] = field(default_factory=dict)

    def job(self, number: int) -> Job:
        """The job of a unit, which is made anew whenever it is asked for, or what took its place."""
        return self.again.get(number) or self.given[number]

    @property
    def failed(self) -> bool:
        return any(isinstance(result, Failure) for result in self.results.values())

    @property
    def in_order(self) -> list[StepRecord | Failure]:
        return [self.results[number] for number in sorted(self.results)]


class SideBySide:
    """Makes results on one runner, as many units at once as it has workers.

    A result begins once those that it is made from are there, and those that come first of its model. What is made from
    one that failed is left out, and all else of the model of one that failed. One that is timed runs alone. Threads
    share one model, so they work on one after the other. A unit that meets a damaged one runs again once that is made
    anew. If worker processes die, nobody knows of which unit: all that were lost run again one by one on a new runner,
    and what loses its worker then has failed. A cluster knows of which: that one alone runs again on another worker.

    Args:
        nodes: The results, in the order in which they begin where all may.
        runner: How units are spread.
        failed: Owners of results that have failed.
        begin: Gives the jobs of a result when it begins, and what became of those that were made along with others, by
            their numbers.
        bars: Show how far each is.
        mend: Makes a damaged unit anew that another met while it read.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        runner: Spread,
        failed: Container[str],
        begin: Callable[[Node], Begun],
        bars: Bars,
        mend: Callable[[DamagedUnit], None],
    ) -> None:
        self._waiting, self._spread, self._failed, self._begin, self._bars = list(nodes), runner, failed, begin, bars
        self._mend, self._places = mend, {node: place for place, node in enumerate(self._waiting)}
        self._damaged: list[tuple[tuple[_Begun, int], DamagedUnit]] = []
        self._met: set[tuple[Node, int, str, str]] = set()
        self._gone: set[Node] = set()
        self._begun: list[_Begun] = []
        self._flying: dict[PrefectFuture[Any], tuple[_Begun, int]] = {}
        self._suspects: deque[tuple[_Begun, int]] = deque()
        self._elsewhere: Counter[tuple[_Begun, int]] = Counter()
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
            while True:
                self._fill(runner)
                if through := self._through():
                    self._begun = [one for one in self._begun if one not in through]
                    self._gone |= {one.node for one in through if one.failed}
                    for one in through:
                        yield one.node, one.given, one.in_order
                elif not self._flying:
                    if not self._damaged:
                        return
                    self._mend_damaged()
                elif self._land():
                    running.close()
                    runner = running.enter_context(started(pool(self._spread)))

    def _through(self) -> list[_Begun]:
        """The results of which all units are through."""
        units = (*self._flying.values(), *self._suspects, *(unit for unit, _ in self._damaged))
        under_way = [one for one, _ in units]
        return [one for one in self._begun if not one.queue and one not in under_way]

    def _fill(self, runner: TaskRunner[Any]) -> None:
        """Give every free worker a unit, unless something is through, which others may wait for."""
        while len(self._flying) < self._spread.workers and (found := self._next()) is not None:
            one, number = found
            job = one.job(number)
            self._flying[runner.submit(task_of(job), {"job": job})] = found

    def _next(self) -> tuple[_Begun, int] | None:
        """The next unit that may run beside what is in flight."""
        in_flight = [one.node for one, _ in self._flying.values()]
        if (self._alone and in_flight) or self._damaged or self._through():
            return None
        if self._suspects:
            self._alone = True
            return self._suspects.popleft()
        under_way = self._under_way()
        while self._open(in_flight, under_way):
            if self._through():
                return None
            under_way = self._under_way()
        self._alone = under_way is not None and under_way.node.step.timed
        return None if under_way is None else (under_way, under_way.queue.popleft())

    def _under_way(self) -> _Begun | None:
        """The first result with units to give out."""
        return min((one for one in self._begun if one.queue), key=lambda one: self._places[one.node], default=None)

    def _open(self, in_flight: Sequence[Node], under_way: _Begun | None) -> bool:
        """Begin the next result that may begin, unless one is under way that comes before it; whether there is one."""
        for lost in filter(self._lost, list(self._waiting)):  # one after the other: what reads a lost one is lost
            self._waiting.remove(lost)
            self._gone.add(lost)
        left = {*self._waiting, *(one.node for one in self._begun)}
        first = {node.owner for node in left if node.step.first}
        node = next((node for node in self._waiting if not self._held_up(node, left, first)), None)
        if node is None or (under_way is not None and self._places[under_way.node] < self._places[node]):
            return False
        shared = self._spread.kind == "threads" and node.step.runs_model
        others = shared and any(one.step.runs_model and one.runs != node.runs for one in in_flight)
        if others or (in_flight and node.step.timed):
            return False
        self._waiting.remove(node)
        jobs, made = self._begin(node)
        missing = [number for number in range(len(jobs)) if number not in made]
        advance = (self._bars(node.title, len(missing)), progress_artifact(node.title, len(missing))) if missing else ()
        self._begun.append(_Begun(node, jobs, advance, deque(missing), {**made}))
        return True

    def _lost(self, node: Node) -> bool:
        """Whether a result is not to be made: something else of its model failed, or something that it is made from."""
        return node.owner in self._failed or not self._gone.isdisjoint(node.made_from)

    def _held_up(self, node: Node, left: Set[Node], first: Container[str]) -> bool:
        """Whether a result waits for another: one that it is made from or along with, or the first of its model."""
        if not left.isdisjoint(node.made_from) or (node.owner in first and not node.step.first):
            return True
        return bool(node.step.along(node.given)) and any(node.goes_along(one) for one in left)

    def _land(self) -> bool:
        """Take what became of the next unit that is through; whether the runner's processes died."""
        future = next(as_completed(list(self._flying)))
        landed = {(unit := self._flying.pop(future)): (first := result_of(future))}
        if isinstance(first, LostWorker):
            self._sent_elsewhere(unit, first)
            return False
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

    def _sent_elsewhere(self, unit: tuple[_Begun, int], lost: LostWorker) -> None:
        """Have another worker take a unit that lost its own, unless it has lost several while it was in work."""
        one, number = unit
        self._elsewhere[unit] += lost.began
        if self._elsewhere[unit] > ELSEWHERE:
            self._take(unit, lost)
        else:
            one.queue.appendleft(number)

    def _take(self, unit: tuple[_Begun, int], result: StepRecord | BaseException) -> None:
        one, number = unit
        if isinstance(result, DamagedUnit):
            met = (one.node, number, result.key.path, result.unit)
            if met not in self._met:
                self._met.add(met)
                self._damaged.append((unit, result))
                return
        one.results[number] = found = checked(one.job(number), result)
        if isinstance(found, Failure) and found.lost_worker:
            one.queue.clear()  # each of them would take its worker, and the time of starting another
        for advance in one.advance:
            advance()

    def _mend_damaged(self) -> None:
        """Make anew what units met that was damaged, once nothing reads it, and have them run again."""
        for damage in {damage.key: damage for _, damage in self._damaged}.values():  # mends all that is of a result
            self._mend(damage)
        for (one, number), _ in self._damaged:
            jobs, _made = self._begin(one.node)
            one.again[number] = jobs[number]
            one.queue.append(number)
        self._damaged.clear()
