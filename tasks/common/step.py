"""The one Prefect task: believe the store, else make a unit of a step and commit it."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client import orchestration
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from indexscope import IndexscopeError
from indexscope.columns import Table
from indexscope.storage.store import passes
from indexscope.storage.store.store import JSON, DamagedUnit, StepKey, Store, UnitRecord
from indexscope.tasks.common.declared import Job, Made, Parcel
from indexscope.tasks.common.parent import end_with_parent
from indexscope.tasks.common.registry import STEPS
from indexscope.tasks.common.tables import tables_of
from indexscope.tasks.common.unit import MADE_FROM, StepRecord, Target, is_stale
from indexscope.tasks.common.versions import versions

#: Failures of disk or network that trying again does not mend.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
#: Units on a local disk up to this size (bytes) are read and compared with their checksums before they count as cached:
#: that takes a fraction of what Prefect takes to run a task. Larger units and units in a bucket are known by their
#: sizes until they are read; every read compares checksums.
CHECKED = 64 * 2**20
#: Threads that look up units in a bucket, and units that are handed to them together.
READERS, AT_ONCE = 16, 1000


def may_pass(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether a failure may pass by itself: disk and network do, bad input and full memory do not."""
    return isinstance(state.data, OSError) and not isinstance(state.data, LASTING)


@task(
    task_run_name="{job.title}",
    retries=2,
    retry_delay_seconds=exponential_backoff(2),
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def make_unit(job: Job) -> StepRecord | State[StepRecord]:
    """Make one unit of a step, unless the store has it whole."""
    step = STEPS[job.step]
    settled = forget_pass if step.runs_model else None
    return perform(job.target, lambda store: step.compute(job, store), lambda: tables_of(step), job.along, settled)


@task(task_run_name="{title}", retries=0, cache_policy=NO_CACHE, persist_result=False)
def look_up(title: str, units: Parcel[Callable[[], list[StepRecord]]], total: int) -> State[list[StepRecord]]:
    """Tell Prefect in one run of the units of a step that need no run of their own."""
    found = units.value()
    return Completed(name="Cached", message=f"the store has {len(found)} of {total}", data=found)


def looked_up(
    step: str, title: str, store: Store, key: StepKey, units: Sequence[str], made_from: str | None
) -> list[StepRecord]:
    """The records of those units of a step that the store has whole, as a task of Prefect's under the step's name.

    Args:
        step: Name of the step.
        title: What people call the result.
        store: Where it is.
        key: The result.
        units: All its units.
        made_from: Checksum of what it is made from; a unit made from something else is left to a task of its own.
    """

    def look(unit: str) -> StepRecord | None:
        with suppress(OSError, DamagedUnit):  # which is left to a task: that tries again, and makes what is damaged
            record = store.record(key, unit)  # of its marker: packs are believed, and here all is looked at
            if record is not None and not is_stale(record, made_from):
                _check(store, key, record)
                return record_of(record, cached=True)
        return None

    def found() -> list[StepRecord]:
        with ThreadPoolExecutor(1 if store.folder.is_local else READERS) as pool:
            parts = (units[start : start + AT_ONCE] for start in range(0, len(units), AT_ONCE))
            return [record for part in parts for record in pool.map(look, part) if record is not None]

    state: Any = look_up.with_options(name=step)(title, Parcel(found), len(units), return_state=True)
    told: list[StepRecord] = state.result()
    return told


def _check(store: Store, key: StepKey, record: UnitRecord) -> None:
    """Compare the bytes of a unit on a local disk with what was committed, unless they are many.

    Raises:
        DamagedUnit: They are others.
    """
    if store.folder.is_local and record.bytes <= CHECKED:
        store.check(key, record)


def task_of(job: Job) -> Task[Any, Any]:
    """The task of a job under its step's name, as Prefect shows it."""
    return make_unit.with_options(name=job.step)


def start_worker(quiet: bool, watched: bool = True) -> None:
    """Set up a worker process: it ends with its parent, and its logs go to Prefect rather than the terminal.

    Args:
        quiet: Whether its logs go to Prefect alone.
        watched: Whether it is this process that sees to its end.
    """
    if watched:
        end_with_parent()
    share_certificates()
    if quiet:
        for name in ("prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).propagate = False


def share_certificates() -> None:
    """Let all of Prefect's clients in this process share what they trust.

    It makes two clients a task, and for each would read all root certificates anew, which takes 40 ms.
    """
    shared = ModuleType(ssl.__name__)
    vars(shared).update(vars(ssl), create_default_context=cache(ssl.create_default_context))
    vars(orchestration)["ssl"] = shared


def perform(
    target: Target,
    compute: Callable[[Store], Made],
    tables: Callable[[], Mapping[str, Table]] = dict,
    along: Job | None = None,
    settled: Callable[[Store, Target], None] | None = None,
) -> StepRecord | State[StepRecord]:
    """Return the record of a unit, computing and committing it unless the store has it whole.

    Args:
        target: Where the result goes.
        compute: Makes the unit.
        tables: Gives the tables as they are declared, where what is made does not say.
        along: The unit that is made along with it.
        settled: Called once the unit is committed.

    Prefect's own cache is not used: a cached state of Prefect's can outlive the Parquet file that it stands for, a
    commit marker cannot. Prefect shows "Cached" exactly when the unit is committed and intact.
    """
    store = Store(target.store)
    known, damage = _known(store, target)
    if known is not None and not target.refresh and not is_stale(known, target.made_from):
        if target.alone:
            store.prepare(target.key, target.label, [target.unit])  # writes only where the manifest is gone or torn
        return Completed(name="Cached", message="the store has it", data=record_of(known, cached=True))
    start = time.perf_counter()
    try:
        made = compute(store)
    except IndexscopeError:
        raise  # one line says it all
    except Exception:
        # Prefect logs no traceback where a retry condition says no, so a defect could not be found again.
        with suppress(MissingContextError):
            get_run_logger().exception("%s %s failed", target.label, target.unit)
        raise
    seconds = time.perf_counter() - start
    beside = None
    if along is not None and made.along is not None:
        theirs = made.along.seconds or 0.0
        seconds -= theirs
        there = _known(store, along.target)
        beside = _commit(store, along.target, made.along, theirs, there, tables_of(STEPS[along.step]))
    record = _commit(store, target, made, seconds, (known, damage), made.described or tables())
    if settled is not None:
        settled(store, target)
    return Completed(message=_because(target, damage), data=replace(record, along=beside))


def forget_pass(store: Store, target: Target) -> None:
    """Remove what a pass had put away of a unit that is whole now; what stays is seen by nobody but gc."""
    with suppress(IndexscopeError, OSError):
        passes.forget(store, target.key, target.unit)


def _commit(
    store: Store,
    target: Target,
    made: Made,
    seconds: float,
    there: tuple[UnitRecord | None, str],
    tables: Mapping[str, Table],
) -> StepRecord:
    """Commit a unit in place of what is there, as `_known` tells it."""
    known, damage = there
    if target.alone:
        store.prepare(target.key, target.label, [target.unit])
    extra: dict[str, JSON] = {"seconds": round(seconds, 3), "versions": versions(), **made.facts}
    if target.made_from is not None:
        extra[MADE_FROM] = target.made_from
    if known is not None or damage:
        store.discard(target.key, target.unit)  # not before there is something to take its place
    unit = store.commit(target.key, target.unit, made.tables, target.label, extra, tables)
    same = None if known is None else known.files == unit.files
    return replace(record_of(unit, cached=False), damage=damage, same=same)


def _known(store: Store, target: Target) -> tuple[UnitRecord | None, str]:
    """The record of a unit that is committed and intact, or what is wrong with it."""
    if target.damage:
        return None, target.damage
    known = store.record(target.key, target.unit)
    if known is None:
        damaged = store.unit_status(target.key, target.unit) == "damaged"
        return None, "its files are not as committed" if damaged else ""
    try:
        _check(store, target.key, known)
    except DamagedUnit as damage:
        return None, described(store, damage)
    return known, ""


def described(store: Store, damage: DamagedUnit) -> str:
    """What is wrong with a unit, with the file named from its step on."""
    return f"{damage.where.removeprefix(store.location(damage.key)).lstrip('/')} {damage.reason}"


def _because(target: Target, damage: str) -> str:
    return f"computed: {reason}" if (reason := damage or target.why) else "computed"


def record_of(unit: UnitRecord, cached: bool) -> StepRecord:
    """What the commit marker says of a unit."""
    seconds, notes = unit.extra.get("seconds"), unit.extra.get("notes")
    return StepRecord(
        unit.unit,
        unit.rows,
        float(seconds) if isinstance(seconds, (int, float)) else 0.0,
        cached,
        tuple(map(str, notes)) if isinstance(notes, list) else (),
    )
