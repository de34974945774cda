"""What every task does around its one call into analysis: believe the store, else compute and commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.states import Completed
from prefect.tasks import exponential_backoff

from indexscope import IndexscopeError
from storage.store import JSON, StepKey, Store, UnitRecord
from tasks.versions import versions

Tables = Mapping[str, pl.DataFrame]
#: Failures of disk or network that trying again does not mend.
LASTING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


@dataclass(frozen=True)
class StepRecord:
    """What became of one unit of a step.

    Attributes:
        unit: The unit's name.
        rows: Rows of all its tables.
        seconds: What computing it took, whenever that was.
        cached: Whether the store had it already.
        notes: What the user should know of how it was made.
    """

    unit: str
    rows: int
    seconds: float
    cached: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """Where a task's result goes.

    Attributes:
        store: Address of the store.
        key: The step.
        unit: The unit.
        label: What people call the step.
        alone: Whether the unit makes the step complete.
    """

    store: str
    key: StepKey
    unit: str
    label: str
    alone: bool = True


def perform(
    target: Target, compute: Callable[[Store], Tables], facts: Mapping[str, JSON] | None = None
) -> StepRecord | State[StepRecord]:
    """Return the record of a unit, computing and committing it unless the store has it whole.

    Args:
        target: Where the result goes.
        compute: Makes the unit's tables.
        facts: Kept in the commit marker; ``compute`` may still fill it. A list of ``notes`` is for the user.

    Prefect's own cache is not used: a cached state of Prefect's can outlive the Parquet file that it stands for, a
    commit marker cannot. Prefect shows "Cached" exactly when the unit is committed and intact.
    """
    store = Store(target.store)
    known = store.record(target.key, target.unit)
    if known is not None:
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
    return record_of(store.commit(target.key, target.unit, tables, target.label, extra), cached=False)


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
