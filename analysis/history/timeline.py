"""The runs of a study in order, with those next to each other that came to the same result as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from indexscope.analysis.history.numbers import GATE, MODEL
from indexscope.analysis.leaks import LEAKS


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        ended: When it ended.
        result: What tells its result from others.
        numbers: What `kept` kept of its report; None if that is lost.
        problem: Why there are no numbers.
        changed: What sets its result apart from that of the run before; empty for the first.
    """

    ended: datetime
    result: str
    numbers: Mapping[str, Any] | None = field(hash=False)
    problem: str = ""
    changed: str = ""


@dataclass(frozen=True)
class Stretch:
    """Runs that followed each other with one result.

    Attributes:
        number: Its place, from 1.
        dates: When each of the runs ended, in order.
        run: The first of the runs.
        returned: Number of the earlier stretch with this very result; None if it is new.
    """

    number: int
    dates: tuple[datetime, ...]
    run: Run
    returned: int | None = None

    @property
    def gates(self) -> dict[str, dict[str, Any]]:
        """The gates by name: name, rule, value and passed."""
        rows = [] if self.run.numbers is None else self.run.numbers["gates"]
        return {row[0]: dict(zip(GATE, row, strict=True)) for row in rows}

    @property
    def missing(self) -> list[str]:
        """Candidates that failed, so that the result says nothing of them."""
        return [] if self.run.numbers is None else list(self.run.numbers.get("missing", ()))

    @property
    def series(self) -> dict[str, str]:
        """The series of each model that stands for one, as its newest member."""
        return {} if self.run.numbers is None else dict(self.run.numbers.get("series", {}))

    @property
    def leaks(self) -> list[str]:
        """Models that failed the causality audit, so that none of their numbers counts."""
        return [] if self.run.numbers is None else list(self.run.numbers.get(LEAKS, ()))


def stretches(runs: Sequence[Run]) -> list[Stretch]:
    """The runs of a study, in the order of their ends, joined where the result stayed the same."""
    found: list[Stretch] = []
    first: dict[str, int] = {}
    for run in sorted(runs, key=lambda run: run.ended):
        last = found[-1] if found else None
        if last is not None and last.run.result == run.result:
            found[-1] = Stretch(last.number, (*last.dates, run.ended), last.run, last.returned)
            continue
        number = len(found) + 1
        found.append(Stretch(number, (run.ended,), run, first.get(run.result)))
        first.setdefault(run.result, number)
    return found


def models_of(stretch: Stretch) -> dict[str, str]:
    """Role of each model of a stretch by its name, baseline first; empty where the numbers are lost."""
    rows = [] if stretch.run.numbers is None else stretch.run.numbers["models"]
    return {row[MODEL.index("name")]: row[MODEL.index("role")] for row in rows}
