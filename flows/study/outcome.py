"""How a run ended, as an exit code and as a Prefect state; a failure's last line says what is kept and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from indexscope import IndexscopeError
from indexscope.flows.engine.narrate import short
from indexscope.flows.engine.units import ModelsFailed, UnitsFailed
from indexscope.flows.errors import lines_of
from indexscope.flows.study.plan import Plan

DONE, GATE_FAILED, BAD_INPUT, UNITS_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
#: Lines told of failed units; the others are counted.
TOLD = 10


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: Exit code of the command line.
        messages: What is to be told on stderr, one line each.
        folder: The report's folder, if there is a report.
        told: What is to be told of the report on stdout; Prefect's log and `serve` tell nothing of it.
    """

    code: int = DONE
    messages: tuple[str, ...] = ()
    folder: str | None = None
    told: str = ""


class Stopped(Exception):
    """A run ended before it made what it was to make.

    Args:
        outcome: How.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("; ".join(outcome.messages))
        self.outcome = outcome


def concluded(work: Callable[[], Outcome]) -> State[Any]:
    """Run a flow's body and end in a state that carries the outcome; bad input is no crash and leaves no traceback."""
    try:
        outcome = work()
    except IndexscopeError as error:
        outcome = Outcome(BAD_INPUT, tuple(lines_of(error)))
    except Stopped as stopped:
        outcome = stopped.outcome
    if outcome.code == DONE:
        return Completed(data=outcome, message=outcome.folder)
    return Failed(data=outcome, message="; ".join(outcome.messages))


@contextmanager
def at_work(plan: Plan, command: str) -> Iterator[None]:
    """Once the work of a command has begun: if it ends early, say after what failed what is kept and what to do next.

    Raises:
        Stopped: The work ended early.
    """
    try:
        yield
    except IndexscopeError as error:
        raise Stopped(Outcome(BAD_INPUT, (*lines_of(error), kept(plan, command, mend=True)))) from error
    except (ModelsFailed, UnitsFailed) as failed:
        failures = failed.failures.values() if isinstance(failed, ModelsFailed) else [failed]
        mend = any(failure.bad_input for failure in failures)
        lines = (*failure_lines(failures), kept(plan, command, mend))
        raise Stopped(Outcome(BAD_INPUT if mend else UNITS_FAILED, lines)) from failed


def failure_lines(failed: Iterable[UnitsFailed]) -> list[str]:
    """One line a failed unit, what has to be put right once, and at most ten in all."""
    found: dict[str, str] = {}
    for failure in (failure for step in failed for failure in step.failures):
        found.setdefault(failure.reason if failure.bad_input else failure.line, failure.line)
    lines = [f"error: {line}" for line in found.values()]
    more = len(lines) - TOLD
    return [*lines[:TOLD], f"error: and {more} more"] if more > 0 else lines


def kept(plan: Plan, command: str, mend: bool, missing: Iterable[str] = ()) -> str:
    """What the store has of a command's work, and how to get the rest.

    Args:
        plan: The whole study's plan.
        command: The command.
        mend: Whether something has to be put right first.
        missing: Models that the report was made without.
    """
    try:
        statuses = [
            status
            for node in plan.made_by(command)
            for status in plan.store.unit_statuses(node.key, node.units).values()
        ]
        what = f"{statuses.count('committed')} of {len(statuses)} units in {short(plan.study.store)}"
    except (IndexscopeError, OSError):  # it may be the store that failed
        what = f"what was finished, in {short(plan.study.store)}"
    partly = f"the report is without {', '.join(missing)}" if missing else ""
    remedy = "mend that and run the same command again" if mend else "to resume, run the same command again"
    return "; ".join(part for part in (f"kept: {what}", partly, remedy) if part)
