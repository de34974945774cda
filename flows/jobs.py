"""The jobs of a plan: what each task is given, where its result goes, and what that result is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from analysis.settings import ExtractSettings
from flows.plan import ModelPlan, Plan, analysis_settings, sources_of
from flows.provenance import settled, timings
from indexscope import IndexscopeError
from storage.samples import Sample, spread
from storage.store import StepKey
from tasks.analyze import AnalysisJob
from tasks.catalogue import CUSTOM, POOLED
from tasks.compare import RESULT, ComparisonJob
from tasks.extract import ModelJob, Parcel
from tasks.keys import report_key
from tasks.probe import PROBE, ProbeJob
from tasks.report import MEASURES, GateRule, ReportedModel, ReportJob
from tasks.step import Target
from tasks.user_features import UserFeaturesJob

#: Sequences that the causality audit may choose from.
AUDITED = 8
#: A step and the units that make it complete.
Source = tuple[StepKey, tuple[str, ...]]


@dataclass(frozen=True)
class Step:
    """One line of a study: a result and what people call it.

    Attributes:
        name: What ``--refresh`` calls it: "extract", "clustering", …
        title: What the narration calls it: the name, and the model's name where there is one result a model.
        label: What its manifest is labelled with.
        key: Its address.
        units: The units that make it complete.
        sources: The steps that it is made from.
    """

    name: str
    title: str
    label: str
    key: StepKey
    units: tuple[str, ...]
    sources: tuple[Source, ...] = ()


def extract_step(plan: Plan, model: ModelPlan) -> Step:
    """The features of a model."""
    return Step("extract", f"extract {model.name}", label(plan, model), model.features, plan.units)


def measure_step(plan: Plan, model: ModelPlan) -> Step:
    """What is measured once of a model."""
    return Step("measure", f"measure {model.name}", label(plan, model), model.measures, (MEASURES,))


def probe_step(plan: Plan, model: ModelPlan) -> Step:
    """The close look at some samples of a model."""
    return Step("probe", f"probe {model.name}", label(plan, model), model.probe, (PROBE,))


def user_features_step(plan: Plan, model: ModelPlan) -> Step | None:
    """The study's own features of a model, if it declares any."""
    if model.user_features is None:
        return None
    title = f"user_features {model.name}"
    return Step("user_features", title, label(plan, model), model.user_features, plan.units)


def analysis_step(plan: Plan, model: ModelPlan, analysis: str) -> Step:
    """One analysis of a model."""
    units = {"features": plan.units, "user_features": plan.units, "measures": (MEASURES,), "probe": (PROBE,)}
    sources = sources_of(analysis, model.steps)
    return Step(
        analysis,
        f"{analysis} {model.name}",
        label(plan, model),
        model.analyses[analysis],
        (RESULT,),
        (*((key, units.get(name, (RESULT,))) for name, key in sources.items()), *_pooled(plan, analysis)),
    )


def compare_step(plan: Plan) -> Step:
    """The comparison."""
    analyses = ((key, (RESULT,)) for model in plan.models for key in model.analyses.values())
    sources = (*analyses, *(source for model in plan.models for source in _outputs(plan, model)))
    return Step("compare", "compare", plan.study.name, plan.comparison, (RESULT,), sources)


def _outputs(plan: Plan, model: ModelPlan) -> tuple[Source, ...]:
    """What a model selects and predicts."""
    return (model.features, plan.units), (model.probe, (PROBE,))


def report_step(plan: Plan, key: StepKey) -> Step:
    """The report."""
    measures = tuple((model.measures, (MEASURES,)) for model in plan.models)
    analyses = ((key, (RESULT,)) for model in plan.models for key in model.analyses.values())
    sources = (*measures, *analyses, (plan.comparison, (RESULT,)))
    return Step("report", "report", plan.study.name, key, (RESULT,), sources)


class Contents:
    """Checksums of what steps hold, each looked up once; made anew after anything was computed.

    Args:
        plan: Whose steps they are.
    """

    def __init__(self, plan: Plan) -> None:
        self._store = plan.store
        self._known: dict[StepKey, str | None] = {}

    def made_from(self, step: Step) -> str | None:
        """One checksum over all that a step is made from; None without sources, or while they are not there whole."""
        found = [self._content(key, units) for key, units in step.sources]
        known = [content for content in found if content is not None]
        return sha256(" ".join(known).encode()).hexdigest() if known and len(known) == len(found) else None

    def _content(self, key: StepKey, units: Sequence[str]) -> str | None:
        if key not in self._known:
            try:
                self._known[key] = self._store.content(key, units)
            except IndexscopeError:
                self._known[key] = None
        return self._known[key]


def target(plan: Plan, step: Step, unit: str, made_from: str | None, why: str, damage: str = "") -> Target:
    """Where the result of a unit goes, and whether and why it is to be made."""
    return Target(
        plan.study.store,
        step.key,
        unit,
        step.label,
        alone=step.name not in ("extract", "user_features"),
        refresh=step.name in plan.refresh and not damage,
        made_from=made_from,
        why=why,
        damage=damage,
    )


def extract_job(plan: Plan, model: ModelPlan, goal: Target, samples: Sequence[Sample]) -> ModelJob:
    """One shard of a model."""
    return _model_job(model, goal, samples, plan.study.extract, plan.study.runner.workers)


def user_features_job(plan: Plan, model: ModelPlan, goal: Target, samples: Sequence[Sample]) -> UserFeaturesJob:
    """The study's own features of one shard of a model."""
    study = plan.study
    parcel: Parcel[Sequence[Sample]] = Parcel(tuple(samples))
    return UserFeaturesJob(goal, model.checkpoint, parcel, study.extract, study.runner.workers, plan.metrics)


def measure_job(plan: Plan, model: ModelPlan, goal: Target) -> ModelJob:
    """The measures of a model, alone and with all the cores: latencies next to other work would say nothing."""
    return _model_job(model, goal, plan.samples[:AUDITED], plan.study.extract, 1)


def probe_job(plan: Plan, model: ModelPlan, goal: Target) -> ProbeJob:
    """The probe of a model."""
    samples = spread(plan.samples, plan.study.probe.samples)
    return ProbeJob(
        goal, model.checkpoint, Parcel(tuple(samples)), plan.study.extract, plan.study.probe, plan.tokenizer
    )


def _model_job(
    model: ModelPlan, goal: Target, samples: Sequence[Sample], settings: ExtractSettings, workers: int
) -> ModelJob:
    return ModelJob(goal, model.checkpoint, Parcel(tuple(samples)), settings, workers)


def analysis_job(plan: Plan, model: ModelPlan, step: Step, goal: Target) -> AnalysisJob:
    """One analysis of a model."""
    pooled = _pooled(plan, step.name)
    own = step.sources[: len(step.sources) - len(pooled)]
    metrics = plan.metrics if step.name == CUSTOM else ()
    return AnalysisJob(goal, model.name, step.name, own, analysis_settings(plan.study, step.name), pooled, metrics)


def _pooled(plan: Plan, analysis: str) -> tuple[Source, ...]:
    """The features of all models, each once, for an analysis that is fitted on them together."""
    if analysis not in POOLED:
        return ()
    keys = {model.features.digest: model.features for model in plan.models}
    return tuple((keys[digest], plan.units) for digest in sorted(keys))


def comparison_job(plan: Plan, goal: Target) -> ComparisonJob:
    """Every candidate against the baseline."""
    return ComparisonJob(
        target=goal,
        study=plan.study.name,
        models={model.name: model.analyses for model in plan.models},
        baseline=plan.study.baseline.name,
        settings=plan.study.comparison,
        outputs={model.name: _outputs(plan, model) for model in plan.models},
        metrics=plan.metrics,
    )


def address_of_report(plan: Plan) -> StepKey:
    """Where the report of a plan lies."""
    return report_key([(model.name, model.results) for model in plan.models], plan.comparison, settled(plan))


def report_job(plan: Plan, goal: Target) -> ReportJob:
    """The report of a plan, with its provenance."""
    return ReportJob(
        target=goal,
        study=plan.study.name,
        models=[
            ReportedModel(model.name, model.role, model.checkpoint.fingerprint, model.measures, model.analyses)
            for model in plan.models
        ],
        comparison=plan.comparison,
        gates=[GateRule(gate.name, gate.rule) for gate in plan.study.gates],
        confidence=plan.study.comparison.confidence,
        provenance={**settled(plan), **timings(plan)},
        metrics=plan.metrics,
        missing=plan.missing,
    )


def label(plan: Plan, model: ModelPlan) -> str:
    """What the manifests of a model's results are labelled with."""
    return f"{plan.study.name}: {model.name}"
