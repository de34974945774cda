"""How a run ended, as an exit code and as a Prefect state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.errors import lines_of
from flows.work import UnitsFailed
from indexscope import IndexscopeError

DONE, GATE_FAILED, BAD_INPUT, UNITS_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        code: Exit code of the command line.
        messages: What is to be told on stderr, one line each.
        folder: The report's folder, if there is a report.
    """

    code: int = DONE
    messages: tuple[str, ...] = ()
    folder: str | None = None


def concluded(work: Callable[[], Outcome]) -> State[Any]:
    """Run a flow's body and end in a state that carries the outcome; bad input is no crash and leaves no traceback."""
    try:
        outcome = work()
    except IndexscopeError as error:
        outcome = Outcome(BAD_INPUT, tuple(lines_of(error)))
    except UnitsFailed as failed:
        outcome = Outcome(UNITS_FAILED, tuple(_resume(failed)))
    if outcome.code == DONE:
        return Completed(data=outcome, message=outcome.folder)
    return Failed(data=outcome, message="; ".join(outcome.messages))


def _resume(failed: UnitsFailed) -> list[str]:
    lines = [f"error: {failure.title} failed: {failure.reason}" for failure in failed.failures]
    done = failed.total - len(failed.failures)
    return [
        *lines,
        f"error: {failed.step}: {len(failed.failures)} of {failed.total} units failed, {done} are kept; "
        "to resume, run the same command again",
    ]
