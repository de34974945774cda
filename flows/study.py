"""The flows: a whole study, and each of its steps alone. Their parameters are a study file and overrides."""

from __future__ import annotations

from flows import prefect_setup  # isort: skip - before anything of prefect

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows import steps
from flows.load import load_study
from flows.local_server import SERVED
from flows.narrate import say
from flows.outcome import DONE, GATE_FAILED, UNITS_FAILED, Outcome, at_work, concluded, failure_lines, kept
from flows.plan import Plan, take_plan
from flows.publish import Finished
from flows.references import on_record
from flows.refresh import chosen
from flows.remaining import remaining
from flows.work import UnitsFailed
from storage.store import StepKey
from tasks.parent import end_with_parent

__all__ = ["FLOWS", "analyze_flow", "compare_flow", "extract_flow", "prefect_setup", "report_flow", "study_flow"]

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
        refresh: Steps to compute even if the store has them: extract, measure, probe, analyze or one analysis, …, all.
    """

    def work() -> Outcome:
        plan = _plan("study", file, overrides, refresh)
        with remaining(plan) as left, at_work(plan, "study"):
            left.attempt(steps.extract)
            done: set[StepKey] = set()
            while (finished := left.attempt(lambda plan: _from_features(plan, done))) is None:
                pass
            left.made()
            return _reported(plan, finished, left.failed)

    return concluded(work)


@flow(name="indexscope-extract", flow_run_name=run_name, persist_result=False)
def extract_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """Features and measures of every model."""

    def work() -> Outcome:
        plan = _plan("extract", file, overrides, refresh)
        with on_record(plan), at_work(plan, "extract"):
            steps.extract(plan)
        return Outcome()

    return concluded(work)


@flow(name="indexscope-analyze", flow_run_name=run_name, persist_result=False)
def analyze_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """The analyses, from stored features."""

    def work() -> Outcome:
        plan = _plan("analyze", file, overrides, refresh)
        with on_record(plan):
            steps.require(plan, "extract", file or "")
            with at_work(plan, "analyze"):
                steps.analyze(plan)
        return Outcome()

    return concluded(work)


@flow(name="indexscope-compare", flow_run_name=run_name, persist_result=False)
def compare_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """The comparison, from stored analyses."""

    def work() -> Outcome:
        plan = _plan("compare", file, overrides, refresh)
        with on_record(plan):
            steps.require(plan, "analyze", file or "")
            with at_work(plan, "compare"):
                steps.compare(plan)
        return Outcome()

    return concluded(work)


@flow(name="indexscope-report", flow_run_name=run_name, persist_result=False)
def report_flow(
    file: str | None = None, overrides: list[str] | None = None, refresh: list[str] | None = None
) -> State[Outcome]:
    """The report, from stored measures, analyses and comparison."""

    def work() -> Outcome:
        plan = _plan("report", file, overrides, refresh)
        with on_record(plan) as made:
            for step in ("extract", "analyze", "compare"):
                steps.require(plan, step, file or "")
            with at_work(plan, "report"):
                finished = steps.report(plan)
            made()
            return _reported(plan, finished, {})

    return concluded(work)


FLOWS: dict[str, Flow[..., Any]] = {
    "study": study_flow,
    "extract": extract_flow,
    "analyze": analyze_flow,
    "compare": compare_flow,
    "report": report_flow,
}


def _plan(command: str, file: str | None, overrides: list[str] | None, refresh: list[str] | None) -> Plan:
    plan = take_plan(load_study(file, overrides or ()), chosen(refresh or [], command))
    for note in plan.notes:
        say(note)
    return plan


def _from_features(plan: Plan, done: set[StepKey]) -> Finished:
    steps.analyze(plan, done)
    steps.compare(plan)
    return steps.report(plan)


def _reported(plan: Plan, finished: Finished, missing: Mapping[str, UnitsFailed]) -> Outcome:
    warnings = [f"warning: {text}" for text in finished.warnings]
    gates = [f"gate failed: {name}" for name in finished.failed_gates]
    if not missing:
        return Outcome(GATE_FAILED if gates else DONE, (*warnings, *gates), finished.folder)
    mend = any(failure.bad_input for failure in missing.values())
    last = kept(plan, "study", mend, missing)
    return Outcome(UNITS_FAILED, (*failure_lines(missing.values()), *warnings, *gates, last), finished.folder)
