"""A finished study in a notebook: its tables as frames, its results in the classes of `IndexerInterpreter`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from indexscope import IndexscopeError
from indexscope.analysis.comparison.compare import combine
from indexscope.analysis.leaks import LEAKS, leaks, marked
from indexscope.storage.store.store import Store
from indexscope.storage.studies.finished import FinishedStudy, is_report, open_finished
from indexscope.storage.studies.records import read_records
from indexscope.storage.studies.reports import REPORT, read_report
from interpretability.analyses import (
    SAMPLES,
    IndexerAnalysis,
    IndexerHeads,
    PositionalBias,
    RelevanceDistribution,
    TokenSelection,
)
from interpretability.costs import counted_or_timed
from interpretability.interpreter import SCORE_TABLES, of_numbers, plain_errors

#: What the table of the causality audit is called.
AUDIT = "audit.audit"
#: Where a study keeps its results unless its file says otherwise, beside the folder of its reports.
DEFAULT_STORE = ".indexscope"
REMEDY = "give the folder of a report, or a store in which a study has finished"


@dataclass(frozen=True, eq=False, repr=False)
class StoredAnalysis(IndexerAnalysis):
    """All that a study says of one model's indexer, in the classes of the notebook.

    Attributes:
        distribution: Its index scores.
        selection: What it selects, and what it misses.
        positional: Its positional bias.
        heads: Its single heads.
    """

    distribution: RelevanceDistribution
    selection: TokenSelection
    positional: PositionalBias
    heads: IndexerHeads

    kind: ClassVar[str] = "study"
    numbers: ClassVar[tuple[str, ...]] = (
        *RelevanceDistribution.numbers,
        *TokenSelection.numbers,
        *PositionalBias.numbers,
        *IndexerHeads.numbers,
    )


class LoadedStudy:
    """A finished study.

    Attributes:
        name: The study's name.
        models: Names of its models, the baseline first.
        leaking: Names of those that failed the causality audit, so that no number of theirs can be used.
    """

    def __init__(self, run: FinishedStudy) -> None:
        self._run, self._steps = run, run.steps
        self.name, self.models = run.name, tuple(run.models)
        audits = {model: run.tables(model).get(AUDIT) for model in self.models}
        self.leaking = tuple(model for model, audit in audits.items() if audit is not None and leaks(audit))

    def __repr__(self) -> str:
        """Name, models and place."""
        return f"LoadedStudy {self.name!r} in {self._run.store.url}: {', '.join(map(self._called, self.models))}"

    def _called(self, model: str) -> str:
        return marked(model, model in self.leaking)

    def tables(self, model: str) -> list[str]:
        """Names of all tables of a model: features by their own, all others as "step.table": "closeup.x".

        Raises:
            ValueError: The study has no such model, or its store is damaged.
        """
        with plain_errors():
            return list(self._run.tables(model))

    def table(self, model: str, name: str) -> pl.DataFrame:
        """One of the tables (docs/storage.md says what their columns mean).

        Raises:
            ValueError: The study has no such model or table, or its store is damaged.
        """
        with plain_errors():
            found = self._run.tables(model)
            if name not in found:
                raise IndexscopeError(f"table {name!r}", f"is not one of {model}", f"choose one of {', '.join(found)}")
            return found[name]

    def analysis(self, model: str) -> StoredAnalysis:
        """What the study found of a model's indexer; the study's settings hold.

        Raises:
            ValueError: The study has no such model, or its store is damaged.
        """
        with plain_errors():
            return self._analysis(model, self._run.tables(model))

    def _analysis(self, model: str, stored: Mapping[str, pl.DataFrame]) -> StoredAnalysis:
        def tables(analysis: str) -> dict[str, pl.DataFrame]:
            start = f"{analysis}."
            return {name.removeprefix(start): stored[name] for name in stored if name.startswith(start)}

        listed = stored["samples"].select("sample", "tokens")
        # What tells a dataset from others is a hash over the token ids of all samples.
        dataset = str(self._run.inputs(self._steps[model]["extract"]).get("dataset", ""))
        digest = pl.concat_str(pl.lit(f"{dataset[:20]}:"), pl.col("sample"))
        samples = listed.with_columns(digest=digest).cast(pl.Schema(SAMPLES))
        leak = model in self.leaking if AUDIT in stored else None
        failed = f"{LEAKS}: {model} failed the causality audit; none of its numbers can be used"
        notes = (*((failed,) if leak else ()), *(() if "indexer" in stored else (f"{model}: has no indexer",)))
        summary, places_of, heads = tables("distribution"), tables("positional_bias"), tables("indexer_heads")
        content, budget = tables("token_content"), tables("key_budget")
        renamed = {own: summary[theirs] for own, theirs in SCORE_TABLES.items() if theirs in summary}
        by_bucket = summary.get("by_bucket")

        def buckets(kind: type[IndexerAnalysis]) -> dict[str, pl.DataFrame]:
            return {} if by_bucket is None else {"by_bucket": of_numbers(kind.numbers, by_bucket)}

        both = combine({"distribution": summary, "token_content": content, "key_budget": budget})
        selection = {**budget, **content, **both, **buckets(TokenSelection)}
        looked = heads.get("per_sample", pl.DataFrame(schema={"sample": pl.Int32}))["sample"].unique()
        costs = counted_or_timed(tables("efficiency"))
        of_scores = {**summary, **renamed, **buckets(RelevanceDistribution)}
        of_heads = samples.filter(pl.col("sample").is_in(looked.implode()))
        parts = (
            RelevanceDistribution.of(model, samples, of_scores, notes, costs=costs, leaks=leak),
            TokenSelection.of(model, samples, selection, notes, costs=costs, leaks=leak),
            PositionalBias.of(model, samples, places_of, notes, costs=costs, leaks=leak),
            IndexerHeads.of(model, of_heads, heads, notes, costs=costs, leaks=leak),
        )
        whole = combine({part.kind: part for part in parts})
        metrics, per_sample = whole["metrics"], whole["per_sample"]
        return StoredAnalysis(model, samples, metrics, per_sample, notes, *parts, costs=costs, leaks=leak)


def load(
    report_or_store: str | os.PathLike[str],
    *,
    study: str | None = None,
    store: str | os.PathLike[str] | None = None,
) -> LoadedStudy:
    """Open a finished study.

    Args:
        report_or_store: A store, as a folder or URL; or the folder of a report or its report.json.
        study: Which study of a store that holds several, by name or identity.
        store: The store that a report was made from, where it is not `.indexscope` in a folder above the report.

    Raises:
        ValueError: It is neither, no study has finished in it, several have and none is named, or the store of a report
            is not found.
    """
    source = os.fspath(report_or_store)
    with plain_errors():
        if source.endswith((".yaml", ".yml")):
            raise IndexscopeError(source, "is a study file", REMEDY)
        if is_report(source):
            return LoadedStudy(_of_report(source, study, store))
        if store is not None:
            raise IndexscopeError(source, f"holds no {REPORT}, so that store= has no meaning", "leave store= out")
        return LoadedStudy(open_finished(source, study, REMEDY, "study="))


def _of_report(source: str, study: str | None, store: str | os.PathLike[str] | None) -> FinishedStudy:
    report = read_report(source)
    checkpoints = report["provenance"].get("checkpoints")
    named: Mapping[str, Any] = checkpoints if isinstance(checkpoints, Mapping) else {}
    features = {name: str(made.get("features")) for name, made in named.items() if isinstance(made, Mapping)}
    if study not in (None, report["study"]):
        raise IndexscopeError(source, f"is the report of {report['study']}, not of {study}", "leave study= out")
    if store is not None:
        stores = [Store(store)]
    else:
        above = list(Path(source).resolve().parents)[:4] if "://" not in source else []
        stores = [Store(folder / DEFAULT_STORE) for folder in above if (folder / DEFAULT_STORE).is_dir()]
    for opened in stores:
        records = [record for record in read_records(opened) if record.complete and record.models == features]
        own = [record for record in records if record.study == report["study"]]
        if own:
            return FinishedStudy(opened, own[-1])
    if not stores:
        reason = "does not say where its store is, and no .indexscope lies in a folder above it"
        raise IndexscopeError(source, reason, "give it as store=, or load the store itself")
    reason = f"was not made from {', '.join(opened.url for opened in stores)}, or is no longer in it"
    raise IndexscopeError(source, reason, "give its own store as store=, or run the study again")
