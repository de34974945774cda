"""What a report shows, from the stored tables: for the report itself, and for a single figure of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import polars as pl

from indexscope.storage.store.store import JSON, StepKey, Store
from indexscope.tasks.common.declared import RESULT
from indexscope.tasks.common.features import ANALYSES
from indexscope.tasks.common.results import read_analyses

if TYPE_CHECKING:
    from indexscope.analysis.report import ReportInput


#: What a gate at a length reads: of each model, and of each candidate beside the baseline.
AT_LENGTH, CHANGE = ("metric", "length", "value", "ci_low", "ci_high"), ("baseline", "difference")


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
        lost: Of these the older members of series, with their series and step.
    """

    study: str
    models: Sequence[ReportedModel]
    gates: Sequence[GateRule]
    provenance: Mapping[str, JSON]
    missing: Mapping[str, str]
    lost: Mapping[str, tuple[str, float]] = field(default_factory=dict)


def report_input(
    store: Store, steps: Mapping[str, Mapping[str, StepKey]], cover: Cover, confidence: float
) -> ReportInput:
    """Read what a report shows.

    Args:
        store: The store.
        steps: Results by model ("" for those of the study) and by step.
        cover: What the report says besides.
        confidence: Coverage of the intervals.
    """
    from indexscope.analysis.comparison.compare import combine
    from indexscope.analysis.comparison.gates import evaluate
    from indexscope.analysis.comparison.tables import AT_LENGTHS, COMPARISONS
    from indexscope.analysis.fitting.tables import LEARNED
    from indexscope.analysis.leaks import leaking
    from indexscope.analysis.report import ModelPage, ReportInput
    from indexscope.analysis.report.inputs import CAUSALITY_SCHEMA

    def table(step: str, name: str, model: str = "") -> pl.DataFrame:
        """A table of a result; none where a study of dumps alone has no such result."""
        key = steps.get(model, {}).get(step)
        return pl.DataFrame() if key is None else store.read(key, name, [RESULT])

    compared = {step: store.read_unit(key, RESULT) for step, key in steps.get("", {}).items()}
    pages, metrics, causality, lengths = [], [], [], []
    for model in cover.models:
        own = steps.get(model.name, {})
        analyses = read_analyses(store, {step: key for step, key in own.items() if key.kind.startswith(ANALYSES)})
        for step, tables in compared.items():  # their first column names the model
            analyses[step] = {
                name: frame.filter(pl.col(frame.columns[0]) == model.name) for name, frame in tables.items()
            }
        whole = combine(analyses)
        metrics.append(_named(whole["metrics"], model.name))
        if (cells := analyses.get("evidence", {}).get("evidence_cells")) is not None:
            lengths.append(_named(_by_length(cells).select(AT_LENGTH), model.name))
        if "at_lengths" in whole:
            lengths.append(_named(_overall(whole["at_lengths"]).select(AT_LENGTH), model.name))
            # One question shows what several analyses give at a length, costs among it, and what the comparison does.
            against = analyses.get("compare", {}).get("compared_at_lengths", AT_LENGTHS.empty())
            own_lengths = {"at_lengths": whole["at_lengths"], "compared_at_lengths": _overall(against)}
            analyses["context_length"] = analyses["context_length"] | own_lengths
        if model.dump:  # of which nothing but its selections is known
            facts_of_dump = {"family": f"selections ({model.dump})"}
            pages.append(ModelPage(model.name, model.role, model.fingerprint, facts_of_dump, analyses, model.dump))
            continue
        made = store.read_unit(own["profile"], RESULT)
        facts, audit = made["facts"], table("audit", "audit", model.name)
        if learned := {name: made[name] for name in LEARNED if name in made}:
            analyses["fitting"] = learned
        pages.append(ModelPage(model.name, model.role, model.fingerprint, facts.row(0, named=True), analyses))
        causality.append(_named(audit.select("passed", "max_logit_change", "layer_change"), model.name))
    all_metrics = pl.concat(metrics)
    shown = [model.name for model in cover.models]

    def compared_here(name: str) -> pl.DataFrame:
        """A table of the comparison, of the models of the report: not of every member of a series."""
        found = table("compare", name)
        return found if found.is_empty() else found.filter(pl.col("candidate").is_in(shown))

    comparisons = COMPARISONS.empty() if (found := compared_here("comparisons")).is_empty() else found
    dumps = [model.name for model in cover.models if model.dump and model.role == "candidate"]
    audits = pl.concat(causality) if causality else pl.DataFrame(schema=CAUSALITY_SCHEMA)
    by_length = pl.concat(lengths) if lengths else None
    at_lengths = compared_here("compared_at_lengths")
    at_lengths = at_lengths if at_lengths.width else AT_LENGTHS.empty()
    changes = [_overall(at_lengths).select("candidate", *AT_LENGTH, *CHANGE)]
    if (changed := compared.get("evidence_changes", {}).get("evidence_changes")) is not None:
        changes.append(_by_length(changed).select("candidate", *AT_LENGTH, *CHANGE))
    bad, gone = leaking(audits), tuple(name for name in cover.missing if name not in cover.lost)
    return ReportInput(
        study=cover.study,
        models=pages,
        metrics=all_metrics,
        comparisons=comparisons,
        gates=evaluate(
            cover.gates,
            comparisons,
            all_metrics,
            gone,
            bad,
            dumps,
            by_length,
            pl.concat(changes),
            pl.concat([compared["series"][name] for name in ("series_points", "series_layers")])
            if "series" in compared
            else None,
            cover.lost,
        ),
        causality=audits,
        provenance=cover.provenance,
        confidence=confidence,
        lengths=compared_here("by_length"),
        missing=cover.missing,
    )


def _by_length(cells: pl.DataFrame) -> pl.DataFrame:
    """The rows of each length alone, of all kinds and depths."""
    return cells.filter(pl.col("length").is_not_null() & pl.col("kind").is_null() & pl.col("depth").is_null())


def _overall(rows: pl.DataFrame) -> pl.DataFrame:
    """Those over all layers."""
    return rows.filter(pl.col("layer").is_null())


def _named(frame: pl.DataFrame, model: str) -> pl.DataFrame:
    return frame.select(pl.lit(model).alias("model"), pl.all())
