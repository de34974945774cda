"""The flows: a whole study, and each of its steps alone. Their parameters are a study file and overrides."""

from __future__ import annotations

from indexscope.flows import prefect_setup  # isort: skip - before anything of prefect

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from indexscope import IndexscopeError
from indexscope.flows.engine.narrate import say
from indexscope.flows.engine.units import UnitsFailed
from indexscope.flows.local_server import SERVED
from indexscope.flows.study.config import report_folder
from indexscope.flows.study.load import load_study
from indexscope.flows.study.outcome import (
    DONE,
    GATE_FAILED,
    TOLD,
    UNITS_FAILED,
    Outcome,
    at_work,
    concluded,
    failure_lines,
    kept,
)
from indexscope.flows.study.plan import Plan, take_plan
from indexscope.flows.study.publish import Finished, publish
from indexscope.flows.study.references import on_record
from indexscope.flows.study.refresh import chosen
from indexscope.flows.study.remaining import remaining
from indexscope.storage.store.store import DamagedUnit, StepKey
from indexscope.tasks.common.declared import COMMANDS
from indexscope.tasks.common.parent import end_with_parent

__all__ = ["FLOWS", "prefect_setup", "report_flow", "study_flow"]

if SERVED in os.environ:  # a run that `indexscope serve` started, in a process of its own
    end_with_parent()


def run_name() -> str:
    """What Prefect calls a run: the step and the study file."""
    file = flow_run.parameters.get("file")
    step = str(flow_run.flow_name).removeprefix("indexscope-")
    return f"{step} {Path(file).stem if file else 'demo'}"


@flow(name="indexscope-study", flow_run_name=run_name, persist_result=False)
def study_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """Extract, analyze, compare and report.

    Args:
        file: The study file; none is the built-in study.
        overrides: ``key.key=value`` settings that go before the file's.
        refresh: Steps to compute even if the store has them, by name; analyze and all stand for several.
    """

    def work() -> Outcome:
        plan = _plan("study", file, overrides, refresh)
        with remaining(plan) as left, at_work(plan, "study"):
            done: set[StepKey] = set()
            while (finished := left.attempt(lambda plan: _all_made(plan, done))) is None:
                pass
            left.made()
            return _reported(plan, finished, left.failed)

    return concluded(work)


def _part(command: Literal["extract", "analyze", "compare"], about: str) -> Flow[..., Any]:
    """The flow of one command's steps alone, from what the command before it has stored."""

    @flow(name=f"indexscope-{command}", description=about, flow_run_name=run_name, persist_result=False)
    def part(
        file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
    ) -> State[Outcome]:
        def work() -> Outcome:
            plan = _plan(command, file, overrides, refresh)
            place = COMMANDS.index(command)
            with on_record(plan):
                for before in COMMANDS[max(place - 1, 0) : place]:
                    _require(plan, before, file or "")
                with at_work(plan, command):
                    _made(plan, command)
            return Outcome(UNITS_FAILED, tuple(_refused(plan))) if plan.missing else Outcome()

        return concluded(work)

    return part


@flow(name="indexscope-report", flow_run_name=run_name, persist_result=False)
def report_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """The report, from all that is stored."""

    def work() -> Outcome:
        plan = _plan("report", file, overrides, refresh)
        with on_record(plan) as made:
            for before in COMMANDS[:-1]:
                _require(plan, before, file or "")
            with at_work(plan, "report"):
                finished = _report(plan)
            made()
            return _reported(plan, finished, {})

    return concluded(work)


FLOWS: dict[str, Flow[..., Any]] = {
    "study": study_flow,
    "extract": _part("extract", "Everything that runs a model."),
    "analyze": _part("analyze", "The analyses, from stored features."),
    "compare": _part("compare", "The comparison, from stored analyses."),
    "report": report_flow,
}


def _plan(command: str, file: str | None, overrides: list[str] | None, refresh: list[str] | None) -> Plan:
    plan = take_plan(load_study(file, overrides or ()), chosen(refresh or [], command))
    for note in plan.notes:
        say(note)
    return plan


def _all_made(plan: Plan, done: set[StepKey]) -> Finished:
    _made(plan, *COMMANDS[:-1], done=done)
    return _report(plan)


def _made(plan: Plan, *commands: str, done: set[StepKey] | None = None) -> None:
    plan.engine.make(plan.graph.some(commands), done)


def _report(plan: Plan) -> Finished:
    """The report, written next to the study; its gates decide the outcome."""
    _made(plan, "report")
    (node,) = plan.made_by("report")
    folder = report_folder(plan.study)
    try:
        return publish(plan.store, node.key, folder, plan.study)
    except DamagedUnit as damage:
        plan.engine.mend(damage)
        return publish(plan.store, node.key, folder, plan.study)


def _require(plan: Plan, command: str, file: str) -> None:
    """Refuse to go on while an earlier command is not done.

    Args:
        plan: The study's plan.
        command: "extract", "analyze" or "compare".
        file: The study file as the user named it, for the message; empty for the built-in study.
    """
    for node in plan.made_by(command):
        done = sum(status == "committed" for status in plan.store.unit_statuses(node.key, node.units).values())
        if done < len(node.units):
            reason = f"{node.title} is not done ({done} of {len(node.units)} in the store)"
            remedy = f"run `indexscope {command} {file}".rstrip() + "` first"
            raise IndexscopeError(plan.study.name, reason, remedy)


def _reported(plan: Plan, finished: Finished, missing: Mapping[str, UnitsFailed]) -> Outcome:
    warnings = [f"warning: {text}" for text in finished.warnings]
    gates = [f"gate failed: {name}" for name in finished.failed_gates]
    if not missing and not plan.missing:
        return Outcome(GATE_FAILED if gates else DONE, (*warnings, *gates), finished.folder, finished.told)
    mend = bool(plan.missing) or any(failure.bad_input for failure in missing.values())
    last = kept(plan, "study", mend, [*plan.missing, *missing])
    lines = (*_refused(plan), *failure_lines(missing.values()), *warnings, *gates, last)
    # Nothing that was begun has failed where the plan left members out: then a gate's verdict is the run's.
    code = GATE_FAILED if gates and not missing else UNITS_FAILED
    return Outcome(code, lines, finished.folder, finished.told)


def _refused(plan: Plan) -> list[str]:
    """What the plan could not use, a line each and at most ten."""
    lines = [f"error: {name}: {reason}" for name, reason in plan.missing.items()]
    return [*lines[:TOLD], f"error: and {len(lines) - TOLD} more"] if len(lines) > TOLD else lines
