"""The steps of a study, each idempotent on the store: extract, analyze, compare, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from prefect import Task
from prefect.task_runners import TaskRunner

from flows import jobs
from flows.config import report_folder
from flows.jobs import Contents, Step
from flows.narrate import damage_lines, say, summary
from flows.plan import ModelPlan, Plan
from flows.publish import Finished, publish
from flows.reasons import NOVEL, why
from flows.refresh import MODEL_STEPS
from flows.work import Failure, ModelsFailed, UnitsFailed, pool, run_each, run_units, started, threads
from indexscope import IndexscopeError
from storage.store import DamagedUnit, StepKey
from tasks.analyze import analyze_model
from tasks.catalogue import ALL_ANALYSES, waves
from tasks.compare import compare_models
from tasks.extract import extract_shard, measure_model
from tasks.probe import probe_model
from tasks.report import make_report
from tasks.step import StepRecord, described
from tasks.user_features import extract_user_shard


def extract(plan: Plan) -> None:
    """Features of every model, and what is measured once per model.

    One runner serves all models, one model after another: a worker holds one model at a time. A runner of which a
    worker died serves no other model.

    Raises:
        ModelsFailed: Units of some models failed; the other models were still worked on.
    """
    failed: dict[str, UnitsFailed] = {}
    contents = Contents(plan)
    results = needed(plan, "extract")
    busy = bool(plan.refresh & set(MODEL_STEPS)) or not all(_has(plan, key, units) for _, key, units in results)
    with ExitStack() as running:
        runner = running.enter_context(started(pool(plan.study.runner, busy)))
        for model in plan.models:
            try:
                _extract(plan, model, runner, _announced(plan, jobs.extract_step(plan, model), contents))
                _measure(plan, model, runner, _announced(plan, jobs.measure_step(plan, model), contents))
                _probe(plan, model, runner, _announced(plan, jobs.probe_step(plan, model), contents))
                if (own := jobs.user_features_step(plan, model)) is not None:
                    _user_features(plan, model, runner, own, _announced(plan, own, contents))
            except UnitsFailed as failure:
                failed[model.name] = failure
                if any(unit.lost_worker for unit in failure.failures):
                    running.close()
                    runner = running.enter_context(started(pool(plan.study.runner, busy)))
    if failed:
        raise ModelsFailed(failed)


def _extract(plan: Plan, model: ModelPlan, runner: TaskRunner[Any], reason: str) -> None:
    step = jobs.extract_step(plan, model)
    plan.store.prepare(step.key, step.label, step.units)
    work = [
        jobs.extract_job(plan, model, jobs.target(plan, step, unit, None, reason), samples)
        for unit, samples in plan.shards
    ]
    records = run_units(extract_shard, work, runner, step.title)
    _told(step, records, "shard")


def _measure(plan: Plan, model: ModelPlan, runner: TaskRunner[Any], reason: str) -> None:
    step = jobs.measure_step(plan, model)
    job = jobs.measure_job(plan, model, jobs.target(plan, step, step.units[0], None, reason))
    _told(step, run_units(measure_model, [job], runner, step.title))


def _probe(plan: Plan, model: ModelPlan, runner: TaskRunner[Any], reason: str) -> None:
    step = jobs.probe_step(plan, model)
    job = jobs.probe_job(plan, model, jobs.target(plan, step, step.units[0], None, reason))
    _told(step, run_units(probe_model, [job], runner, step.title))


def _user_features(plan: Plan, model: ModelPlan, runner: TaskRunner[Any], step: Step, reason: str) -> None:
    plan.store.prepare(step.key, step.label, step.units)
    work = [
        jobs.user_features_job(plan, model, jobs.target(plan, step, unit, None, reason), samples)
        for unit, samples in plan.shards
    ]
    _told(step, run_units(extract_user_shard, work, runner, step.title), "shard")


def analyze(plan: Plan, done: set[StepKey] | None = None) -> None:
    """The analyses of every model; they need no model. Those that read others come after them.

    Args:
        plan: The study's plan.
        done: What this run has been through already, which is left out; what it goes through now is added.

    Raises:
        ModelsFailed: Analyses of some models failed; the other models were still worked on.
    """
    known: set[StepKey] = set() if done is None else done
    failed: dict[str, UnitsFailed] = {}
    for names in waves(plan.models[0].analyses):
        steps = [
            (model, step)
            for model in plan.models
            if model.name not in failed
            for step in (jobs.analysis_step(plan, model, name) for name in names)
            if step.key not in known
        ]
        if not steps:
            continue
        work = [(step, _analysis_maker(plan, model, step)) for model, step in steps]
        try:
            results = _each(plan, analyze_model, work, "analyze")
        except ModelsFailed as more:
            raise ModelsFailed({**failed, **more.failures}) from more
        failed |= _by_model(steps, results)
        known.update(step.key for (_, step), failure in zip(steps, results, strict=True) if failure is None)
    if failed:
        raise ModelsFailed(failed)


def _by_model(steps: Sequence[tuple[ModelPlan, Step]], results: Sequence[Failure | None]) -> dict[str, UnitsFailed]:
    failures: dict[str, list[Failure]] = {}
    for (model, _), failure in zip(steps, results, strict=True):
        if failure is not None:
            failures.setdefault(model.name, []).append(failure)
    totals = Counter(model.name for model, _ in steps)
    return {name: UnitsFailed(f"analyze {name}", found, totals[name]) for name, found in failures.items()}


def _analysis_maker(plan: Plan, model: ModelPlan, step: Step) -> Callable[[Any], Any]:
    return lambda goal: jobs.analysis_job(plan, model, step, goal)


def compare(plan: Plan) -> None:
    """Every candidate against the baseline.

    Raises:
        ModelsFailed: Something damaged of a model could not be made anew.
        UnitsFailed: The comparison failed.
    """
    step = jobs.compare_step(plan)
    _results(plan, compare_models, [(step, lambda goal: jobs.comparison_job(plan, goal))], "compare")


def report(plan: Plan) -> Finished:
    """The report, written next to the study; its gates decide the outcome.

    Raises:
        ModelsFailed: Something damaged of a model could not be made anew.
        UnitsFailed: The report failed.
    """
    step = jobs.report_step(plan, jobs.address_of_report(plan))
    folder = report_folder(plan.study)
    work = [(step, lambda goal: jobs.report_job(plan, goal))]
    _results(plan, make_report, work, "report")
    try:
        return publish(plan.store, step.key, folder, plan.study)
    except DamagedUnit as damage:
        plan.store.discard(damage.key, damage.unit)
        _results(plan, make_report, work, "report", described(plan.store, damage))
        return publish(plan.store, step.key, folder, plan.study)


def _results(
    plan: Plan,
    task: Task[Any, Any],
    work: Sequence[tuple[Step, Callable[[Any], Any]]],
    title: str,
    damage: str = "",
) -> None:
    """As `_each`, where nothing may fail."""
    if failures := [failure for failure in _each(plan, task, work, title, damage) if failure is not None]:
        raise UnitsFailed(title, failures, len(work))


def _each(
    plan: Plan,
    task: Task[Any, Any],
    work: Sequence[tuple[Step, Callable[[Any], Any]]],
    title: str,
    damage: str = "",
) -> list[Failure | None]:
    """Steps of one unit each, made in threads from other steps; a damaged unit among those is made anew first.

    Returns:
        What failed, in the order of the work; None where nothing did.
    """
    contents = Contents(plan)
    reasons = {step.key: "" if damage else _announced(plan, step, contents) for step, _ in work}

    def job_of(step: Step, make: Callable[[Any], Any], contents: Contents) -> Any:
        made_from = contents.made_from(step)
        return make(jobs.target(plan, step, step.units[0], made_from, reasons[step.key], damage))

    makers = {step.key: (step, make) for step, make in work}

    def again(job: Any) -> Any:
        return job_of(*makers[job.target.key], Contents(plan))

    with started(threads(plan.study.runner.workers)) as runner:
        first = [job_of(step, make, contents) for step, make in work]
        results = run_each(task, first, runner, title, lambda found: _mend(plan, found), again)
    for (step, _), result in zip(work, results, strict=True):
        if isinstance(result, StepRecord):
            _told(step, [result])
    return [result if isinstance(result, Failure) else None for result in results]


def _mend(plan: Plan, found: DamagedUnit) -> None:
    """Discard what is damaged of a step, which was met while it was read, and make it anew.

    Raises:
        ModelsFailed: It is a model's, and could not be made anew.
        UnitsFailed: It is the comparison, and could not.
    """
    step, model = _owner(plan, found)
    try:
        _mended(plan, found, step, model)
    except UnitsFailed as failure:
        if model is None:
            raise
        raise ModelsFailed({model.name: failure}) from failure


def _mended(plan: Plan, found: DamagedUnit, step: Step, model: ModelPlan | None) -> None:
    damages = {found.unit: described(plan.store, found)}
    for unit in step.units:
        if unit not in damages and (problem := _problem(plan, step.key, unit)):
            damages[unit] = problem
    for unit in damages:
        plan.store.discard(step.key, unit)
    if model is None or step.name in ALL_ANALYSES:
        task = compare_models if model is None else analyze_model
        make = _analysis_maker(plan, model, step) if model else (lambda goal: jobs.comparison_job(plan, goal))
        _results(plan, task, [(step, make)], step.title, damages[step.units[0]])
        return
    goals = {unit: jobs.target(plan, step, unit, None, "", problem) for unit, problem in damages.items()}
    with started(pool(plan.study.runner, busy=True)) as runner:
        if step.name == "extract":
            work = [jobs.extract_job(plan, model, goals[unit], part) for unit, part in plan.shards if unit in goals]
            _told(step, run_units(extract_shard, work, runner, step.title), "shard")
        elif step.name == "user_features":
            shards = [(goals[unit], part) for unit, part in plan.shards if unit in goals]
            own = [jobs.user_features_job(plan, model, goal, part) for goal, part in shards]
            _told(step, run_units(extract_user_shard, own, runner, step.title), "shard")
        elif step.name == "measure":
            measures = [jobs.measure_job(plan, model, goal) for goal in goals.values()]
            _told(step, run_units(measure_model, measures, runner, step.title))
        else:
            probes = [jobs.probe_job(plan, model, goal) for goal in goals.values()]
            _told(step, run_units(probe_model, probes, runner, step.title))


def _owner(plan: Plan, found: DamagedUnit) -> tuple[Step, ModelPlan | None]:
    for model in plan.models:
        own = model_steps(plan, model)
        own += [jobs.analysis_step(plan, model, name) for name in model.analyses]
        for step in own:
            if step.key == found.key:
                return step, model
    if found.key == plan.comparison:
        return jobs.compare_step(plan), None
    raise found


def _problem(plan: Plan, key: StepKey, unit: str) -> str:
    """What is wrong with a unit of which the marker is there, every byte read."""
    record = plan.store.record(key, unit)
    if record is None:
        return "its files are not as committed" if plan.store.unit_status(key, unit) == "damaged" else ""
    try:
        for table in record.tables:
            plan.store.read(key, table, [unit])
    except DamagedUnit as damage:
        return described(plan.store, damage)
    return ""


def _announced(plan: Plan, step: Step, contents: Contents) -> str:
    """Say why a step runs, if there is more to say than that it is new."""
    reason = why(plan, step, contents)
    if reason and reason != NOVEL:
        say(f"{step.title}: {reason}")
    return reason


def _told(step: Step, records: list[StepRecord], noun: str = "result") -> None:
    """Tell what became of a step, and each note of the units computed now, once; older notes are in the report."""
    for line in damage_lines(step.title, records):
        say(line)
    say(summary(step.title, records, noun))
    for note in dict.fromkeys(note for record in records if not record.cached for note in record.notes):
        say(f"{step.title}: note: {note}")


def require(plan: Plan, step: str, file: str) -> None:
    """Refuse to go on while an earlier step is not done.

    Args:
        plan: The study's plan.
        step: "extract", "analyze" or "compare".
        file: The study file as the user named it, for the message; empty for the built-in study.
    """
    for title, key, units in needed(plan, step):
        done = sum(status == "committed" for status in plan.store.unit_statuses(key, units).values())
        if done < len(units):
            remedy = f"run `indexscope {step} {file}".rstrip() + "` first"
            raise IndexscopeError(plan.study.name, f"{title} is not done ({done} of {len(units)} in the store)", remedy)


def needed(plan: Plan, step: str) -> list[tuple[str, StepKey, tuple[str, ...]]]:
    """The results of a step: title, address and units of each."""
    return [(one.title, one.key, one.units) for one in steps_of(plan, step)]


def steps_of(plan: Plan, command: str) -> list[Step]:
    """What "extract", "analyze", "compare" or "report" makes; "study" is all of them, in the order of the work."""
    if command == "study":
        return [step for part in ("extract", "analyze", "compare", "report") for step in steps_of(plan, part)]
    if command == "report":
        return [jobs.report_step(plan, jobs.address_of_report(plan))]
    if command == "compare":
        return [jobs.compare_step(plan)]
    if command == "extract":
        return [step for model in plan.models for step in model_steps(plan, model)]
    return [jobs.analysis_step(plan, model, name) for model in plan.models for name in model.analyses]


def model_steps(plan: Plan, model: ModelPlan) -> list[Step]:
    """The steps that run a model."""
    makers = (jobs.extract_step, jobs.measure_step, jobs.probe_step, jobs.user_features_step)
    return [step for make in makers if (step := make(plan, model)) is not None]


def _has(plan: Plan, key: StepKey, units: Sequence[str]) -> bool:
    return all(status == "committed" for status in plan.store.unit_statuses(key, units).values())
