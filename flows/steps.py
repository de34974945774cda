"""The steps of a study, each idempotent on the store: extract, analyze, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect.task_runners import TaskRunner

from analysis.settings import ExtractSettings
from flows.config import slug
from flows.narrate import say, summary
from flows.plan import ModelPlan, Plan, analysis_settings, sources_of
from flows.provenance import settled, timings
from flows.publish import publish
from flows.work import UnitsFailed, pool, run_units, started, threads
from indexscope import IndexscopeError
from storage.samples import Sample
from storage.store import StepKey
from tasks.analyze import ANALYSES, AnalysisJob, analyze_model
from tasks.compare import RESULT, ComparisonJob, compare_models
from tasks.extract import ModelJob, Parcel, extract_shard, measure_model
from tasks.keys import report_key
from tasks.report import MEASURES, GateRule, ReportedModel, ReportJob, make_report
from tasks.step import StepRecord, Target

#: Sequences that the causality audit may choose from.
AUDITED = 8


@dataclass(frozen=True)
class Finished:
    """A report that was made or found: where it is, and the names of the gates that failed."""

    folder: str
    failed_gates: tuple[str, ...]


def extract(plan: Plan) -> None:
    """Features of every model, and what is measured once per model.

    One runner serves all models, one model after another: a worker holds one model at a time.

    Raises:
        UnitsFailed: Shards failed; those of the other models were still worked on.
    """
    failed: list[UnitsFailed] = []
    results = needed(plan, "extract")
    busy = not all(_has(plan, key, units) for _, key, units in results)
    with started(pool(plan.study.runner, busy)) as runner:
        for model in plan.models:
            try:
                _extract(plan, model, runner)
                _measure(plan, model, runner)
            except UnitsFailed as failure:
                failed.append(failure)
    if failed:
        failures = [failure for part in failed for failure in part.failures]
        raise UnitsFailed(", ".join(part.step for part in failed), failures, sum(part.total for part in failed))


def _extract(plan: Plan, model: ModelPlan, runner: TaskRunner[Any]) -> None:
    if not _has(plan, model.features, plan.units):
        plan.store.prepare(model.features, _label(plan, model), plan.units)
    workers = plan.study.runner.workers
    jobs = [
        _model_job(plan, model, model.features, unit, samples, plan.study.extract, workers)
        for unit, samples in plan.shards
    ]
    title = f"extract {model.name}"
    records = run_units(extract_shard, jobs, runner, title)
    say(summary(title, records, "shard"))
    _say_notes(title, records)


def _measure(plan: Plan, model: ModelPlan, runner: TaskRunner[Any]) -> None:
    # Alone and with all the cores: latencies next to other work would say nothing.
    job = _model_job(plan, model, model.measures, MEASURES, plan.samples[:AUDITED], plan.study.extract, 1)
    title = f"measure {model.name}"
    records = run_units(measure_model, [job], runner, title)
    say(summary(title, records))
    _say_notes(title, records)


def _say_notes(title: str, records: Sequence[StepRecord]) -> None:
    """Each note of the units computed now, once; what the store had was told before and is in the report."""
    for note in dict.fromkeys(note for record in records if not record.cached for note in record.notes):
        say(f"{title}: note: {note}")


def analyze(plan: Plan) -> None:
    """The four analyses of every model; they need no model."""
    jobs = [_analysis_job(plan, model, analysis) for model in plan.models for analysis in ANALYSES]
    with started(threads(plan.study.runner.workers)) as runner:
        records = run_units(analyze_model, jobs, runner, "analyze")
    for job, record in zip(jobs, records, strict=True):
        say(summary(f"{job.analysis} {job.model}", [record]))


def compare(plan: Plan) -> None:
    """Every candidate against the baseline."""
    job = ComparisonJob(
        target=_target(plan, plan.comparison, RESULT, plan.study.name),
        study=plan.study.name,
        models={model.name: model.analyses for model in plan.models},
        baseline=plan.study.baseline.name,
        settings=plan.study.comparison,
    )
    with started(threads(1)) as runner:
        say(summary("compare", run_units(compare_models, [job], runner, "compare")))


def report(plan: Plan) -> Finished:
    """The report, written next to the study; its gates decide the outcome."""
    job = report_job(plan)
    with started(threads(1)) as runner:
        say(summary("report", run_units(make_report, [job], runner, "report")))
    folder = f"{plan.study.report.rstrip('/')}/{slug(plan.study.name)}"
    failed = publish(plan.store, job.target.key, folder, plan.study)
    return Finished(folder, failed)


def report_job(plan: Plan) -> ReportJob:
    """The report of a plan, with its provenance."""
    facts = settled(plan)
    key = report_key([(model.name, model.results) for model in plan.models], plan.comparison, facts)
    return ReportJob(
        target=_target(plan, key, RESULT, plan.study.name),
        study=plan.study.name,
        models=[
            ReportedModel(model.name, model.role, model.checkpoint.fingerprint, model.measures, model.analyses)
            for model in plan.models
        ],
        comparison=plan.comparison,
        gates=[GateRule(gate.name, gate.rule) for gate in plan.study.gates],
        confidence=plan.study.comparison.confidence,
        provenance={**facts, **timings(plan)},
    )


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
    if step == "compare":
        return [("compare", plan.comparison, (RESULT,))]
    results: list[tuple[str, StepKey, tuple[str, ...]]] = []
    for model in plan.models:
        if step == "extract":
            results.append((f"extract {model.name}", model.features, plan.units))
            results.append((f"measure {model.name}", model.measures, (MEASURES,)))
        else:
            results += [(f"{name} {model.name}", key, (RESULT,)) for name, key in model.analyses.items()]
    return results


def _has(plan: Plan, key: StepKey, units: Sequence[str]) -> bool:
    return all(status == "committed" for status in plan.store.unit_statuses(key, units).values())


def _model_job(
    plan: Plan,
    model: ModelPlan,
    key: StepKey,
    unit: str,
    samples: Sequence[Sample],
    settings: ExtractSettings,
    workers: int,
) -> ModelJob:
    target = Target(plan.study.store, key, unit, _label(plan, model), alone=key == model.measures)
    return ModelJob(target, model.checkpoint, Parcel(tuple(samples)), settings, workers)


def _analysis_job(plan: Plan, model: ModelPlan, analysis: str) -> AnalysisJob:
    units = {"features": plan.units, "measures": (MEASURES,)}
    return AnalysisJob(
        target=_target(plan, model.analyses[analysis], RESULT, _label(plan, model)),
        model=model.name,
        analysis=analysis,
        sources=[(key, units[name]) for name, key in sources_of(analysis, model.features, model.measures).items()],
        settings=analysis_settings(plan.study, analysis),
    )


def _target(plan: Plan, key: StepKey, unit: str, label: str) -> Target:
    return Target(plan.study.store, key, unit, label)


def _label(plan: Plan, model: ModelPlan) -> str:
    return f"{plan.study.name}: {model.name}"
