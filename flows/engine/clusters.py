"""Workers of a Ray cluster, as a runner of Prefect's: each has a place of its own, which it keeps from unit to unit.

A place is a placement group of one bundle, so that its node and its GPUs stay, and a runtime environment that no other
place has, so that Ray gives its units to one process: what that has loaded serves every unit that follows. Ray alone
would send each to any process that is idle, and end those of GPUs after one unit.
"""

from __future__ import annotations

from indexscope.flows.engine import ray_setup  # isort: skip - before ray

import os
import secrets
import signal
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import ray
from prefect.settings import PREFECT_API_URL
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from prefect_ray.task_runners import PrefectRayFuture
from ray import exceptions
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from indexscope import IndexscopeError
from indexscope.errors import one_line, shortened
from indexscope.flows.engine.cluster_workers import NAME, Setting, look, refuse_others, settle_in, tell_versions
from indexscope.flows.engine.narrate import say
from indexscope.flows.engine.settings import Cluster, Spread
from indexscope.flows.engine.workers import LostWorker
from indexscope.foreign import reading
from indexscope.storage.store.files import TEMPORARY, open_store
from indexscope.tasks.common.declared import Job

__all__ = ["RayPool", "ray_setup"]

#: What Ray raises where not the unit failed but what it ran on.
GONE = (
    *(exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.LocalRayletDiedError),
    *(exceptions.OutOfMemoryError, exceptions.ObjectLostError, exceptions.TaskUnschedulableError),
    *(exceptions.TaskPlacementGroupRemoved, exceptions.RuntimeEnvSetupError),
)
#: Seconds between two looks at what is not there yet.
PAUSE = 0.1
#: Seconds in which a cluster that is started on this machine has room, or never.
AT_ONCE = 10
#: Seconds that the first call of all workers may take, in which their processes start.
FIRST = 300
#: Seconds between two looks whether nodes live that units wait for.
WATCH = 5


@dataclass(eq=False)
class _Place:
    """Where one worker is.

    Attributes:
        number: Tells it from others.
        group: Its cores and GPUs, once Ray has found them.
        held: What runs there, or ran last.
        found: Whether Ray had found it.
        lost: Whether that was lost, and with it perhaps the node.
    """

    number: int
    group: PlacementGroup
    held: Any = None
    found: bool = False
    lost: bool = False

    @property
    def stands(self) -> bool:
        """Whether it is on a node that lives, as Ray knows it now."""
        return bool(placement_group_table(self.group)["state"] == "CREATED")

    @property
    def is_there(self) -> bool:
        """Whether units may be sent there, as far as is known."""
        self.found = self.found or self.stands
        return self.found and not self.lost

    @property
    def node(self) -> str:
        """Ray's name of the node; "" while there is none."""
        return str(placement_group_table(self.group)["bundles_to_node_id"].get(0) or "")

    @property
    def is_free(self) -> bool:
        return self.held is None or bool(ray.wait([self.held], timeout=0)[0])


class _Unit(PrefectRayFuture[Any]):
    """A unit in flight, of which the worker may be lost.

    Attributes:
        place: Where it was sent.
        before: What ran there when it was sent.
    """

    place: _Place
    before: Any = None

    def wait(self, timeout: float | None = None) -> None:
        """Wait for it.

        Raises:
            LostWorker: Its worker is gone.
        """
        try:
            self._final_state = ray.get(self.wrapped_future, timeout=timeout)
        except exceptions.GetTimeoutError:
            return
        except GONE as error:
            self.place.lost = True
            raise LostWorker(f"its worker is gone ({_first_line(error)})", self._began) from error
        except exceptions.RayTaskError as error:  # before Prefect's task began, which catches what is raised in it
            raise error.cause from None

    @property
    def _began(self) -> bool:
        """Whether what was there before it had ended, so that its turn had come."""
        if self.before is None:
            return True
        try:
            ray.get(self.before, timeout=0)
        except (exceptions.GetTimeoutError, *GONE):
            return False
        except Exception:  # of a unit that failed, but ended
            return True
        return True


class RayPool(RayTaskRunner[Any]):
    """Prefect's runner of Ray, with places for workers. A lost one is found another place, if the cluster has room.

    Args:
        spread: How many workers, and where.
    """

    def __init__(self, spread: Spread) -> None:
        assert spread.cluster is not None
        super().__init__()
        self._cluster, self._wanted = spread.cluster, spread.workers
        self._places: list[_Place] = []
        self._numbers, self._connected, self._neighbours, self._over = 0, False, 1, threading.Event()
        level = os.environ.get("PREFECT_LOGGING_LEVEL", "")
        _, expected = tell_versions()()
        self._setting = setting = Setting(self._cluster.cpus, self._cluster.fingerprint, expected, level)
        run = RayTaskRunner._run_prefect_task

        def unit(*references: Any, **named: Any) -> Any:
            settle_in(setting)
            return run(*references, **named)

        self._run_prefect_task = unit  # which `submit` sends to a worker

    def __enter__(self) -> Self:
        """Connect, find places, and ask all workers whether they may take part.

        Raises:
            IndexscopeError: There is no such cluster, it has no room, or a worker could not take part.
        """
        if not ray.is_initialized():
            _connect(self._cluster, self._wanted)
            self._connected = True
        try:
            super().__enter__()
            self._places = [self._place() for _ in range(self._wanted)]
            patience = self._cluster.patience if self._cluster.address else AT_ONCE
            there = self._wait_for(self._places, patience)
            if not there:
                raise self._no_room()
            if len(there) < self._wanted:
                say(f"{NAME}: has room for {len(there)} of {self._wanted} workers; it begins with those")
            self._check(there)
            nodes = Counter(place.node for place in there)
            self._neighbours = 1 if self._cluster.gpus else max(nodes.values())
            threading.Thread(target=self._watch, name="places", daemon=True).start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *exc_info: Any) -> None:
        """Give back what the cluster had given, whatever still runs there."""
        try:
            super().__exit__(*exc_info)
        finally:
            self._leave()

    def submit(
        self, task: Any, parameters: dict[str, Any], wait_for: Iterable[Any] | None = None, dependencies: Any = None
    ) -> _Unit:
        """Send a unit to a free worker.

        Raises:
            IndexscopeError: No worker is left, and the cluster has no room for another.
        """
        place = self._free()
        job = parameters.get("job")
        if isinstance(job, Job):  # on CPUs workers of one node share its memory
            parameters = {**parameters, "job": replace(job, workers=min(job.workers, self._neighbours))}
        with remote_options(**self._options(place)):
            sent = super().submit(task, parameters, wait_for, dependencies)
        unit = _Unit(sent.task_run_id, sent.wrapped_future)
        unit.place, unit.before, place.held = place, None if place.is_free else place.held, sent.wrapped_future
        return unit

    def _place(self) -> _Place:
        """A place that Ray is to find."""
        wants = {"CPU": self._cluster.cpus, **({"GPU": self._cluster.gpus} if self._cluster.gpus else {})}
        self._numbers += 1
        return _Place(self._numbers, placement_group([wants]))

    def _options(self, place: _Place) -> dict[str, Any]:
        """How Ray runs a unit in a place; whatever is lost is counted and sent elsewhere by the engine."""
        variables = {"INDEXSCOPE_PLACE": str(place.number), "OMP_NUM_THREADS": str(self._cluster.cpus)}
        return {
            "num_cpus": self._cluster.cpus,
            "num_gpus": self._cluster.gpus,
            "max_calls": 0,  # Ray's own choice for GPUs is 1: a process, and a load of the model, for each unit
            "max_retries": 0,
            "runtime_env": {"env_vars": variables},
            "scheduling_strategy": PlacementGroupSchedulingStrategy(place.group, 0),
        }

    def _free(self) -> _Place:
        """The place for the next unit: a free one, else behind what runs in another."""
        for number, place in enumerate(self._places):
            if place.lost:
                self._places[number] = self._place()
                _remove(place)
        there = [place for place in self._places if place.is_there]
        if not there and not (there := self._wait_for(self._places, self._cluster.patience, at_least=1)):
            raise self._no_room()
        return next((place for place in there if place.is_free), there[self._numbers % len(there)])

    def _wait_for(self, places: Sequence[_Place], patience: float, at_least: int | None = None) -> list[_Place]:
        """The places that are there as soon as enough are, or patience ends."""
        limit = time.monotonic() + patience
        while True:
            there = [place for place in places if place.is_there]
            if len(there) >= (at_least or len(places)) or time.monotonic() > limit:
                return there
            time.sleep(PAUSE)

    def _watch(self) -> None:
        """Give up places of nodes that died: Ray lets what was sent there wait until it finds them others, or for ever.

        What waits there is lost then, and goes elsewhere.
        """
        while not self._over.wait(WATCH):
            with suppress(Exception):  # of a cluster that does not answer now
                for place in [place for place in self._places if place.found and not place.lost]:
                    if not place.stands:
                        place.lost = True
                        _remove(place)

    def _check(self, places: Sequence[_Place]) -> None:
        """Ask workers for their versions, and whether they see the store and Prefect."""
        with reading(NAME, "see `ray status` and the logs of the cluster", "cannot start workers"):
            told = self._ask(places, tell_versions())
        for found in told:
            refuse_others(found, self._setting.versions)
        with _token(self._cluster.store) as token, reading(NAME, "see `ray status`", "lost a worker at the start"):
            answers = self._ask(places, look, self._setting, self._cluster.store, token, PREFECT_API_URL.value() or "")
        for problem in answers:
            if problem is not None:
                raise problem

    def _ask(self, places: Sequence[_Place], function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a function answers in every place."""
        calls = [ray.remote(**self._options(place))(function).remote(*arguments) for place in places]
        return list(ray.get(calls, timeout=FIRST))

    def _no_room(self) -> IndexscopeError:
        of = f"{self._cluster.cpus} CPUs" + (f" and {self._cluster.gpus} GPUs" if self._cluster.gpus else "")
        has: dict[str, float] = ray.cluster_resources()
        there = f"{has.get('CPU', 0):g} CPUs and {has.get('GPU', 0):g} GPUs in all"
        remedy = "ask for what a node has free (runner.cpus_per_worker, gpus_per_worker), or raise runner.patience"
        return IndexscopeError(NAME, f"has no room for a worker of {of} (it has {there})", remedy)

    def _leave(self) -> None:
        self._over.set()
        for place in self._places:
            _remove(place)
        self._places = []
        if self._connected:
            self._connected = False
            with suppress(Exception):  # of a cluster that is gone nothing has to be left
                ray.shutdown()


def _connect(cluster: Cluster, workers: int) -> None:
    """Connect to a cluster, or start one on this machine that ends with this process."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL", "namespace": "indexscope"}
    if not cluster.address:
        own = {"address": "local", "num_cpus": workers * cluster.cpus, "include_dashboard": False}
        options |= own if cluster.gpus else {**own, "num_gpus": 0}
    else:
        options["address"] = cluster.address
    where = f"{NAME} {cluster.address}".rstrip()
    remedy = "check runner.address; `ray status` on the head node tells whether it runs"
    reason = "cannot be reached" if cluster.address else "cannot be started"
    with _own_signals(), warnings.catch_warnings(), reading(where, remedy, reason):
        warnings.simplefilter("ignore")  # Ray's client warns of what it then raises
        ray.init(**options)


def _remove(place: _Place) -> None:
    with suppress(Exception):
        remove_placement_group(place.group)


@contextmanager
def _token(store: str) -> Iterator[str]:
    """A file in the store, by which workers know it for the same one."""
    if not store:
        yield ""
        return
    folder, name = open_store(store), f".meeting.{secrets.token_hex(6)}{TEMPORARY}"
    folder.write(name, b"")
    try:
        yield name
    finally:
        folder.remove(name)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's handlers: Ray has one of its own for SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_line(error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    return shortened(one_line(f"{type(error).__name__}: {said}"), 200)
