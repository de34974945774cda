"""The report of a study, from the stored tables; kept in the store as text, so that it can be written out again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from indexscope.storage.store import JSON, Store
from indexscope.tasks.common.declared import RESULT, Job, Made, Reads, Step
from indexscope.tasks.common.features import ANALYSES
from indexscope.tasks.common.own_metrics import own_metrics
from indexscope.tasks.common.results import read_analyses
from indexscope.tasks.common.unit import Tables

#: Raise it when the same inputs would give another report.
VERSION = 9


@dataclass(frozen=True)
class ReportedModel:
    """A model of the report."""

    name: str
    role: Literal["baseline", "candidate"]
    fingerprint: str


@dataclass(frozen=True)
class GateRule:
    """A gate as the analysis wants it."""

    name: str
    rule: str


@dataclass(frozen=True)
class Cover:
    """What a report says besides the results.

    Attributes:
        study: Its title.
        models: The baseline, then the candidates.
        gates: Conditions to evaluate.
        provenance: Fingerprints, versions, seeds, settings and timings.
        missing: Candidates of the study that have no result, and why.
    """

    study: str
    models: Sequence[ReportedModel]
    gates: Sequence[GateRule]
    provenance: Mapping[str, JSON]
    missing: Mapping[str, str]


def _compute(job: Job, store: Store) -> Made:
    with own_metrics(job.metrics):
        return Made(_rendered(job, job.more.value, store))


def _rendered(job: Job, cover: Cover, store: Store) -> Tables:
    from indexscope.analysis.choices import choice_metrics
    from indexscope.analysis.comparison import combine
    from indexscope.analysis.divergence import output_metrics
    from indexscope.analysis.gates import evaluate
    from indexscope.analysis.report import ModelPage, ReportInput, render

    def table(step: str, name: str, model: str = "") -> pl.DataFrame:
        (source,) = [source for source in job.of(step) if source.model == model]
        return store.read(source.key, name, [RESULT])

    compared = {step: store.read_all(job.of(step)[0].key) for step in ("transitions", "choices", "divergence")}
    pages, metrics, causality = [], [], []
    for model in cover.models:
        own = {source.step: source.key for source in job.sources if source.model == model.name}
        analyses = read_analyses(store, {step: key for step, key in own.items() if key.kind.startswith(ANALYSES)})
        for step, tables in compared.items():
            analyses[step] = {
                name: frame.filter(pl.col("candidate" if "candidate" in frame.columns else "model") == model.name)
                for name, frame in tables.items()
            }
        facts, audit = table("profile", "facts", model.name), table("audit", "audit", model.name)
        pages.append(ModelPage(model.name, model.role, model.fingerprint, facts.row(0, named=True), analyses))
        metrics.append(_named(combine(analyses)["metrics"], model.name))
        causality.append(_named(audit.select("passed", "max_logit_change"), model.name))
    comparing = [
        output_metrics(compared["divergence"]["divergence"]),
        choice_metrics(compared["choices"]["choices"]),
    ]
    all_metrics = pl.concat([*metrics, *comparing], how="diagonal_relaxed")
    comparisons = table("compare", "comparisons")
    gates = evaluate(cover.gates, comparisons, all_metrics, tuple(cover.missing))
    report = ReportInput(
        study=cover.study,
        models=pages,
        metrics=all_metrics,
        comparisons=comparisons,
        gates=gates,
        causality=pl.concat(causality),
        provenance=cover.provenance,
        confidence=job.given.comparison.confidence,
        lengths=table("compare", "by_length"),
        missing=cover.missing,
    )
    files = render(report)
    written = pl.DataFrame({"name": list(files), "content": list(files.values())})
    return {"files": written, "gates": gates, "summary": comparisons}


def _named(frame: pl.DataFrame, model: str) -> pl.DataFrame:
    return frame.select(pl.lit(model).alias("model"), pl.all())


STEP = Step(
    "report",
    "report",
    "reports",
    _compute,
    (Reads("audit"), Reads("profile"), Reads("[analyze]"), Reads("[compare]")),
    per="study",
    version=lambda: VERSION,
    declares=("indexscope.analysis.report.stored:REPORTED",),
)
