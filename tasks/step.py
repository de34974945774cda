"""What every task does around its one call into analysis: believe the store, else compute and commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from indexscope import IndexscopeError
from storage.columns import Table
from storage.store import JSON, DamagedUnit, StepKey, Store, UnitRecord
from tasks.versions import versions

Tables = Mapping[str, pl.DataFrame]
#: Failures of disk or network that trying again does not mend.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
#: Units on a local disk up to this size (bytes) are read and compared with their checksums before they count as cached:
#: that takes a fraction of what Prefect takes to run a task. Larger units and units in a bucket are known by their
#: sizes until they are read; every read compares checksums.
CHECKED = 64 * 2**20
#: Where a marker keeps the checksum of what a unit was made from.
MADE_FROM = "made_from"


@dataclass(frozen=True)
class StepRecord:
    """What became of one unit of a step.

    Attributes:
        unit: The unit's name.
        rows: Rows of all its tables.
        seconds: What computing it took, whenever that was.
        cached: Whether the store had it already.
        notes: What the user should know of how it was made.
        damage: What was wrong with the unit that was there before, if it was damaged.
        same: Whether it has the bytes that it had before; None if it was not there whole.
    """

    unit: str
    rows: int
    seconds: float
    cached: bool
    notes: tuple[str, ...] = ()
    damage: str = ""
    same: bool | None = None


@dataclass(frozen=True)
class Target:
    """Where a task's result goes.

    Attributes:
        store: Address of the store.
        key: The step.
        unit: The unit.
        label: What people call the step.
        alone: Whether the unit makes the step complete.
        refresh: Whether it is to be computed even if the store has it.
        made_from: Checksum of what it is made from; a unit made from something else is computed again.
        why: Why it runs, if it does.
        damage: What was found wrong with the unit, if something was.
    """

    store: str
    key: StepKey
    unit: str
    label: str
    alone: bool = True
    refresh: bool = False
    made_from: str | None = None
    why: str = ""
    damage: str = ""


def perform(
    target: Target,
    compute: Callable[[Store], Tables],
    facts: Mapping[str, JSON] | None = None,
    described: Mapping[str, Table] | None = None,
) -> StepRecord | State[StepRecord]:
    """Return the record of a unit, computing and committing it unless the store has it whole.

    Args:
        target: Where the result goes.
        compute: Makes the unit's tables.
        facts: Kept in the commit marker; ``compute`` may still fill it. A list of ``notes`` is for the user.
        described: What the columns of a table mean, where `storage.schemas` cannot know it.

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
        tables = compute(store)
    except IndexscopeError:
        raise  # one line says it all
    except Exception:
        # Prefect logs no traceback where a retry condition says no, so a defect could not be found again.
        with suppress(MissingContextError):
            get_run_logger().exception("%s %s failed", target.label, target.unit)
        raise
    seconds = round(time.perf_counter() - start, 3)
    if target.alone:
        store.prepare(target.key, target.label, [target.unit])
    extra: dict[str, JSON] = {"seconds": seconds, "versions": versions(), **(facts or {})}
    if target.made_from is not None:
        extra[MADE_FROM] = target.made_from
    if known is not None or damage:
        store.discard(target.key, target.unit)  # not before there is something to take its place
    made = store.commit(target.key, target.unit, tables, target.label, extra, described)
    same = None if known is None else known.files == made.files
    record = replace(record_of(made, cached=False), damage=damage, same=same)
    return Completed(message=_because(target, damage), data=record)


def is_stale(unit: UnitRecord, made_from: str | None) -> bool:
    """Whether a unit is known to have been made from something else than the store has now."""
    return None not in (made_from, unit.extra.get(MADE_FROM)) and unit.extra[MADE_FROM] != made_from


def _known(store: Store, target: Target) -> tuple[UnitRecord | None, str]:
    """The record of a unit that is committed and intact, or what is wrong with it."""
    if target.damage:
        return None, target.damage
    known = store.record(target.key, target.unit)
    if known is None:
        damaged = store.unit_status(target.key, target.unit) == "damaged"
        return None, "its files are not as committed" if damaged else ""
    try:
        if store.folder.is_local and known.bytes <= CHECKED:
            for table in known.tables:
                store.read(target.key, table, [target.unit])
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


def may_pass(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether a failure may pass by itself: disk and network do, bad input and full memory do not."""
    return isinstance(state.data, OSError) and not isinstance(state.data, LASTING)


#: Options of every task.
OPTIONS: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": exponential_backoff(2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": may_pass,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
