"""Which units run beside each other, on how many workers, and who is blamed for a worker that died."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from indexscope.flows.engine import side_by_side
from indexscope.flows.engine.ahead import in_background
from indexscope.flows.engine.make import Engine
from indexscope.flows.engine.settings import MOST, PROCESS, RunnerSettings, Spread, spread
from indexscope.flows.engine.units import ModelsFailed, threads
from indexscope.flows.engine.workers import LostWorker
from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Job, Made, Reads
from tests.flows.engine.fakes import House, house, nothing, step
from tests.flows.engine.test_make import made

GIGABYTE = 1 << 30


class Seen:
    """Which units were in work together."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.together: set[frozenset[str]] = set()
        self._lock = threading.Lock()

    def compute(self, job: Job, store: Store) -> Made:
        with self._lock:
            self.now.add(job.title)
            self.together |= {frozenset((job.title, other)) for other in self.now}
        time.sleep(0.3)
        with self._lock:
            self.now.remove(job.title)
        return nothing(job, store)

    def beside(self, title: str) -> set[str]:
        return {other for pair in self.together if title in pair for other in pair} - {title}


def watched(monkeypatch: pytest.MonkeyPatch, folder: Path, seen: Seen, runner: Spread) -> House:
    steps = [
        step("audit", "extract", runs_model=True, first=True, compute=seen.compute),
        step("extract", "extract", runs_model=True, sharded=True, compute=seen.compute),
        step("closeup", "extract", runs_model=True, compute=seen.compute),
        step("reruns", "extract", "closeup", runs_model=True, compute=seen.compute),
        step("profile", "extract", runs_model=True, timed=True, compute=seen.compute),
    ]
    fake = house(monkeypatch, str(folder), steps)
    return House(Engine(fake.engine.graph, fake.engine.store, lambda: runner, fake.engine.shards), fake.made)


def in_threads_of_any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes, played by threads: what is submitted and when is the same."""
    monkeypatch.setattr(side_by_side, "pool", lambda spread: threads(spread.workers))


def test_steps_of_a_model_run_side_by_side_and_what_is_timed_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_threads_of_any_model(monkeypatch)
    seen = Seen()
    fake = watched(monkeypatch, tmp_path, seen, Spread(kind="processes", workers=2))
    order = made(fake, "extract")
    assert len(order) == len(set(order)) == 12
    of_base = {title for title in order if " base" in title} - {"audit base"}
    assert not seen.beside("closeup base") & {"reruns base"}, "nothing begins before what it is made from is through"
    assert not seen.beside("audit base") & of_base, "nothing of a model begins before its audit is through"
    assert seen.beside("closeup base") and seen.beside("extract light shard-00000")
    assert seen.beside("profile base") == seen.beside("profile light") == set()


def test_threads_share_one_model_and_so_never_work_on_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = Seen()
    made(watched(monkeypatch, tmp_path, seen, Spread(kind="threads", workers=3)), "extract")
    assert not any("base" in str(pair) and "light" in str(pair) for pair in seen.together)
    assert "extract base shard-00001" in seen.beside("extract base shard-00000")


def test_one_worker_makes_one_unit_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = Seen()
    made(watched(monkeypatch, tmp_path, seen, Spread(kind="threads", workers=1)), "extract")
    assert all(len(pair) == 1 for pair in seen.together)


def test_the_unit_that_kills_its_worker_is_found_and_what_ran_beside_it_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_threads_of_any_model(monkeypatch)
    started, real = [], side_by_side.started

    @contextmanager
    def counted(runner: Any) -> Iterator[Any]:
        started.append(runner)
        with real(runner) as running:
            yield running

    class Dying(side_by_side.SideBySide):
        """The worker of one unit dies each time, and with it whatever is in flight."""

        def _land(self) -> bool:
            in_flight = [one.job(number).title for one, number in self._flying.values()]
            dies = "closeup base" in in_flight
            monkeypatch.setattr(side_by_side, "result_of", died if dies else result_of)
            return super()._land()

    result_of = side_by_side.result_of

    def died(future: Any) -> BrokenExecutor:
        future.wait()
        return BrokenExecutor("a process died")

    monkeypatch.setattr("indexscope.flows.engine.make.SideBySide", Dying)
    monkeypatch.setattr(side_by_side, "started", counted)
    fake = watched(monkeypatch, tmp_path, Seen(), Spread(kind="processes", workers=2))
    with pytest.raises(ModelsFailed) as failed:
        made(fake, "extract")
    assert list(failed.value.failures) == ["base"]
    (lost,) = failed.value.failures["base"].failures
    assert lost.title == "closeup base" and lost.lost_worker
    assert len(started) == 3, "after the first loss, and after the one that tells"
    assert "reruns light" in fake.made and "reruns base" not in fake.made


@pytest.mark.parametrize(("began", "losses", "fails"), [(False, 7, False), (True, 2, False), (True, 3, True)])
def test_a_unit_that_waited_behind_another_when_its_worker_was_lost_has_not_lost_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, began: bool, losses: int, fails: bool
) -> None:
    result_of, lost = side_by_side.result_of, iter(range(losses))

    class Losing(side_by_side.SideBySide):
        def _land(self) -> bool:
            titles = [one.job(number).title for one, number in self._flying.values()]
            gone = titles == ["closeup base"] and next(lost, None) is not None
            monkeypatch.setattr(side_by_side, "result_of", (lambda _: LostWorker("gone", began)) if gone else result_of)
            return super()._land()

    monkeypatch.setattr("indexscope.flows.engine.make.SideBySide", Losing)
    fake = watched(monkeypatch, tmp_path, Seen(), Spread(kind="threads", workers=1))
    if fails:
        with pytest.raises(ModelsFailed, match="base"):
            made(fake, "extract")
    else:
        made(fake, "extract")
    assert ("reruns base" in fake.made) is not fails


BUILT_IN = [(3_000_000, 12_000_000)] * 2


@pytest.mark.parametrize(
    ("wanted", "changed", "found"),
    [
        ({}, {}, ("processes", 2)),
        ({}, {"cores": 64}, ("processes", MOST)),
        ({}, {"cores": 1}, ("threads", 1)),
        ({}, {"device": "cuda"}, ("threads", 1)),
        ({}, {"tokens": 256}, ("threads", 1)),
        ({}, {"tokens": 256, "models": [(135_000_000, 540_000_000)] * 2}, ("processes", 2)),
        ({}, {"shards": 1}, ("threads", 1)),
        ({}, {"memory": PROCESS}, ("threads", 1)),
        ({}, {"models": [(30_000_000_000, 60 * GIGABYTE)]}, ("threads", 1)),
        ({}, {"models": []}, ("threads", 1)),
        ({"workers": 3}, {}, ("processes", 3)),
        ({"workers": 3}, {"device": "cuda"}, ("threads", 3)),
        ({"workers": 1}, {}, ("threads", 1)),
        ({"kind": "threads"}, {}, ("threads", 1)),
        ({"kind": "threads", "workers": 5}, {}, ("threads", 5)),
        ({"kind": "processes"}, {"tokens": 256}, ("processes", 2)),
        ({"kind": "processes", "workers": 1}, {}, ("processes", 1)),
        ({"kind": "ray"}, {"cores": 3}, ("ray", 3)),
        ({"kind": "ray", "cpus_per_worker": 2}, {"cores": 3}, ("ray", 1)),
        ({"kind": "ray", "address": "auto", "workers": 40, "gpus_per_worker": 1}, {"device": "cuda"}, ("ray", 40)),
    ],
)
def test_the_runner_suits_the_work_and_the_machine(
    wanted: dict[str, Any], changed: dict[str, Any], found: tuple[str, int]
) -> None:
    machine = {"device": "cpu", "tokens": 32_768, "models": BUILT_IN, "shards": 8, "cores": 2, "memory": 16 * GIGABYTE}
    chosen = spread(RunnerSettings(**wanted), **(machine | changed))
    assert (chosen.kind, chosen.workers) == found


@pytest.mark.parametrize(("kind", "ahead"), [("processes", 1), ("threads", 0)])
def test_what_a_later_step_imports_is_imported_while_worker_processes_are_at_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Literal["threads", "processes"], ahead: int
) -> None:
    in_threads_of_any_model(monkeypatch)
    begun: list[threading.Thread] = []
    called: list[str] = []

    def imports() -> None:
        called.append(threading.current_thread().name)
        raise ImportError("told by whoever needs it")

    steps = [
        step("extract", "extract", runs_model=True, sharded=True),
        step("report", "report", Reads("extract"), per="study", ahead=imports),
    ]
    fake = house(monkeypatch, str(tmp_path), steps)
    engine = Engine(fake.engine.graph, fake.engine.store, lambda: Spread(kind=kind, workers=2), fake.engine.shards)

    def noted(all_of_them: list[Callable[[], None]]) -> None:
        begun.append(in_background(all_of_them))

    monkeypatch.setattr("indexscope.flows.engine.make.in_background", noted)
    assert len(made(House(engine, fake.made), "extract")) == 4
    for thread in begun:
        thread.join()
    assert called == ["imports"] * ahead
    assert made(House(engine, fake.made), "report") == ["report"]
    assert made(House(engine, fake.made), "extract") == [] and called == ["imports"] * ahead


def test_nothing_is_imported_beside_what_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_threads_of_any_model(monkeypatch)
    order: list[str] = []

    def timed(job: Job, store: Store) -> Made:
        time.sleep(0.2)
        order.append(job.title)
        return nothing(job, store)

    steps = [
        step("audit", "extract", runs_model=True, first=True),
        step("profile", "extract", runs_model=True, timed=True, compute=timed),
        step("extract", "extract", runs_model=True, sharded=True),
        step("report", "report", Reads("extract"), per="study", ahead=lambda: None),
    ]
    fake = house(monkeypatch, str(tmp_path), steps)
    runner = Spread(kind="processes", workers=2)
    engine = Engine(fake.engine.graph, fake.engine.store, lambda: runner, fake.engine.shards)
    monkeypatch.setattr("indexscope.flows.engine.make.in_background", lambda work: order.append("imports"))
    made(House(engine, fake.made), "extract")
    assert order == ["profile base", "profile light", "imports"]
