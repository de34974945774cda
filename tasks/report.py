"""The report of a study, from the stored tables; kept in the store as text, so that it can be written out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import polars as pl
from prefect import task
from prefect.client.schemas.objects import State

from indexscope.metrics import MetricsFile
from storage.store import JSON, StepKey, Store
from tasks.compare import RESULT, read_analyses
from tasks.own_metrics import own_metrics
from tasks.step import OPTIONS, StepRecord, Tables, Target, perform

MEASURES = "model"
#: Tables of the comparison on what changed between the models' choices.
CHOICES = ("choices", "choices_where", "choices_by", "choices_worst")


@dataclass(frozen=True)
class ReportedModel:
    """A model of the report and where its tables are."""

    name: str
    role: Literal["baseline", "candidate"]
    fingerprint: str
    measures: StepKey
    analyses: Mapping[str, StepKey]


@dataclass(frozen=True)
class GateRule:
    """A gate as the analysis wants it."""

    name: str
    rule: str


@dataclass(frozen=True)
class ReportJob:
    """One report to make.

    Attributes:
        target: Where the result goes.
        study: Title of the report.
        models: The baseline, then the candidates.
        comparison: The comparison's step.
        gates: Conditions to evaluate.
        confidence: Coverage of the comparison's intervals.
        provenance: Fingerprints, versions, seeds, settings and timings.
        metrics: Files of the study's own metrics.
        missing: Candidates of the study that have no result, and why.
    """

    target: Target
    study: str
    models: Sequence[ReportedModel]
    comparison: StepKey
    gates: Sequence[GateRule]
    confidence: float
    provenance: Mapping[str, JSON]
    metrics: tuple[MetricsFile, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What Prefect calls the run."""
        return f"report {self.study}"


@task(name="report", task_run_name="{job.title}", **OPTIONS)
def make_report(job: ReportJob) -> StepRecord | State[StepRecord]:
    """The report's files as a table (name, content), and its gates."""

    def compute(store: Store) -> Tables:
        with own_metrics(job.metrics):
            return rendered(store)

    def rendered(store: Store) -> Tables:
        from analysis.choices import choice_metrics
        from analysis.comparison import combine
        from analysis.divergence import output_metrics
        from analysis.gates import evaluate
        from analysis.report import ModelPage, ReportInput, render

        moves = {name: store.read(job.comparison, name, [RESULT]) for name in ("transitions", "moved")}
        outputs = {name: store.read(job.comparison, name, [RESULT]) for name in ("divergence", "divergence_by")}
        choices = {name: store.read(job.comparison, name, [RESULT]) for name in CHOICES}
        pages, metrics, causality = [], [], []
        for model in job.models:
            facts = store.read(model.measures, "facts", [MEASURES])
            audit = store.read(model.measures, "audit", [MEASURES])
            analyses = read_analyses(store, model.analyses)
            analyses["transitions"] = {
                name: frame.filter(pl.col("candidate") == model.name) for name, frame in moves.items()
            }
            analyses["divergence"] = {
                name: frame.filter(pl.col("model") == model.name) for name, frame in outputs.items()
            }
            analyses["choices"] = {
                name: frame.filter(pl.col("candidate") == model.name) for name, frame in choices.items()
            }
            pages.append(ModelPage(model.name, model.role, model.fingerprint, facts.row(0, named=True), analyses))
            metrics.append(_named(combine(analyses)["metrics"], model.name))
            causality.append(_named(audit.select("passed", "max_logit_change"), model.name))
        comparing = [output_metrics(outputs["divergence"]), choice_metrics(choices["choices"])]
        all_metrics = pl.concat([*metrics, *comparing], how="diagonal_relaxed")
        comparisons = store.read(job.comparison, "comparisons", [RESULT])
        gates = evaluate(job.gates, comparisons, all_metrics, tuple(job.missing))
        report = ReportInput(
            study=job.study,
            models=pages,
            metrics=all_metrics,
            comparisons=comparisons,
            gates=gates,
            causality=pl.concat(causality),
            provenance=job.provenance,
            confidence=job.confidence,
            lengths=store.read(job.comparison, "by_length", [RESULT]),
            missing=job.missing,
        )
        files = render(report)
        table = pl.DataFrame({"name": list(files), "content": list(files.values())})
        return {"files": table, "gates": gates, "summary": comparisons}

    return perform(job.target, compute)


def _named(frame: pl.DataFrame, model: str) -> pl.DataFrame:
    return frame.select(pl.lit(model).alias("model"), pl.all())
