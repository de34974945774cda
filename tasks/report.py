"""The report of a study, from the stored tables; kept in the store as text, so that it can be written out again."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from indexscope.storage.store.store import JSON, Store
from indexscope.tasks.common.declared import RESULT, Job, Made, Reads, Step
from indexscope.tasks.common.features import ANALYSES
from indexscope.tasks.common.plugins import with_plugins
from indexscope.tasks.common.results import read_analyses
from indexscope.tasks.common.unit import Tables

#: Raise it when the same inputs would give another report.
VERSION = 15


@dataclass(frozen=True)
class ReportedModel:
    """A model of the report."""

    name: str
    role: Literal["baseline", "candidate"]
    fingerprint: str
    dump: str = ""


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
    gc.freeze()  # figures are full of circles: collecting them need not look through torch each time
    try:
        with with_plugins(job.plugins):
            return Made(_rendered(job, job.more.value, store))
    finally:
        gc.unfreeze()


def _rendered(job: Job, cover: Cover, store: Store) -> Tables:
    from indexscope.analysis.comparison.compare import combine
    from indexscope.analysis.comparison.gates import evaluate
    from indexscope.analysis.comparison.tables import COMPARISONS
    from indexscope.analysis.leaks import leaking
    from indexscope.analysis.report import ModelPage, ReportInput, render
    from indexscope.analysis.report.inputs import CAUSALITY_SCHEMA
    from indexscope.analysis.report.panelled import study_pictures
    from indexscope.analysis.report.stored import FIGURES

    def table(step: str, name: str, model: str = "") -> pl.DataFrame:
        """A table of a result; none where a study of dumps alone has no such result."""
        keys = [source.key for source in job.of(step) if source.model == model]
        return store.read(keys[0], name, [RESULT]) if keys else pl.DataFrame()

    compared = {source.step: store.read_all(source.key) for source in job.sources if not source.model}
    pages, metrics, causality = [], [], []
    for model in cover.models:
        own = {source.step: source.key for source in job.sources if source.model == model.name}
        analyses = read_analyses(store, {step: key for step, key in own.items() if key.kind.startswith(ANALYSES)})
        for step, tables in compared.items():  # their first column names the model
            analyses[step] = {
                name: frame.filter(pl.col(frame.columns[0]) == model.name) for name, frame in tables.items()
            }
        metrics.append(_named(combine(analyses)["metrics"], model.name))
        if model.dump:  # of which nothing but its selections is known
            facts_of_dump = {"family": f"selections ({model.dump})"}
            pages.append(ModelPage(model.name, model.role, model.fingerprint, facts_of_dump, analyses, model.dump))
            continue
        facts, audit = table("profile", "facts", model.name), table("audit", "audit", model.name)
        pages.append(ModelPage(model.name, model.role, model.fingerprint, facts.row(0, named=True), analyses))
        causality.append(_named(audit.select("passed", "max_logit_change"), model.name))
    all_metrics = pl.concat(metrics)
    comparisons = COMPARISONS.empty() if (found := table("compare", "comparisons")).is_empty() else found
    dumps = [model.name for model in cover.models if model.dump and model.role == "candidate"]
    audits = pl.concat(causality) if causality else pl.DataFrame(schema=CAUSALITY_SCHEMA)
    gates = evaluate(cover.gates, comparisons, all_metrics, tuple(cover.missing), leaking(audits), dumps)
    report = ReportInput(
        study=cover.study,
        models=pages,
        metrics=all_metrics,
        comparisons=comparisons,
        gates=gates,
        causality=audits,
        provenance=cover.provenance,
        confidence=job.given.comparison.confidence,
        lengths=table("compare", "by_length"),
        missing=cover.missing,
    )
    pictures = study_pictures(report)
    files = render(report, pictures)
    written = pl.DataFrame({"name": list(files), "content": list(files.values())})
    figures = pl.DataFrame([vars(one) for one in pictures], schema=FIGURES.schema, strict=False)
    return {"files": written, "figures": figures, "gates": gates, "summary": comparisons}


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
