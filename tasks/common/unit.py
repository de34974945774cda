"""Where the result of a unit goes, and what became of it; light to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from indexscope.storage.store.store import StepKey, UnitRecord

Tables = Mapping[str, pl.DataFrame]
#: Where a marker keeps the checksum of what a unit was made from.
MADE_FROM = "made_from"


@dataclass(frozen=True, slots=True)
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
        along: What became of the unit that was made along with it.
    """

    unit: str
    rows: int
    seconds: float
    cached: bool
    notes: tuple[str, ...] = ()
    damage: str = ""
    same: bool | None = None
    along: StepRecord | None = None


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


def is_stale(unit: UnitRecord, made_from: str | None) -> bool:
    """Whether a unit is known to have been made from something else than the store has now."""
    return None not in (made_from, unit.extra.get(MADE_FROM)) and unit.extra[MADE_FROM] != made_from
