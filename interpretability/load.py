"""A finished study in a notebook: its tables as frames, its results in the classes of `IndexerInterpreter`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from indexscope import IndexscopeError
from indexscope.analysis.comparison import combine
from indexscope.storage.export import choose_study
from indexscope.storage.keys import StepKey, key_at
from indexscope.storage.reports import REPORT, read_report
from indexscope.storage.store import Store
from indexscope.storage.studies import StudyRecord, read_records, record_files
from interpretability.analyses import (
    SAMPLES,
    IndexerAnalysis,
    IndexerHeads,
    PositionalBias,
    RelevanceDistribution,
    TokenSelection,
)
from interpretability.interpreter import SCORE_TABLES, of_numbers, plain_errors

#: Where a study keeps its results unless its file says otherwise, beside the folder of its reports.
DEFAULT_STORE = ".indexscope"
REMEDY = "give the folder of a report, or a store in which a study has finished"
ANALYSES = "analyses/"


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
    """

    def __init__(self, store: Store, record: StudyRecord) -> None:
        self._store = store
        self.name = record.study
        self.models = tuple(record.models)
        self._features = {model: key_at(path) for model, path in record.models.items()}
        self._analyses = _analyses_of(store, record)

    def __repr__(self) -> str:
        """Name, models and place."""
        return f"LoadedStudy {self.name!r} in {self._store.url}: {', '.join(self.models)}"

    def tables(self, model: str) -> list[str]:
        """Names of all tables of a model: features by their own, results as "analysis.table", the probe's as "probe.x".

        Raises:
            ValueError: The study has no such model, or its store is damaged.
        """
        with plain_errors():
            found = self._places(model)
        return list(found)

    def table(self, model: str, name: str) -> pl.DataFrame:
        """One of the tables (docs/storage.md says what their columns mean).

        Raises:
            ValueError: The study has no such model or table, or its store is damaged.
        """
        with plain_errors():
            found = self._places(model)
            if name not in found:
                raise IndexscopeError(f"table {name!r}", f"is not one of {model}", f"choose one of {', '.join(found)}")
            key, stored = found[name]
            return self._store.read(key, stored)

    def analysis(self, model: str) -> StoredAnalysis:
        """What the study found of a model's indexer; the study's settings hold.

        Raises:
            ValueError: The study has no such model, or its store is damaged.
        """
        places = self._places_or_raise(model)

        def tables(analysis: str) -> dict[str, pl.DataFrame]:
            with plain_errors():
                return {
                    name.removeprefix(f"{analysis}."): self._store.read(*place)
                    for name, place in places.items()
                    if name.startswith(f"{analysis}.")
                }

        listed = self.table(model, "samples").select("sample", "tokens")
        digest = pl.concat_str(pl.lit(f"{self._dataset(model)[:20]}:"), pl.col("sample"))
        samples = listed.with_columns(digest=digest).cast(pl.Schema(SAMPLES))
        notes = () if "indexer" in places else (f"{model}: has no indexer",)
        summary, places_of, heads = tables("distribution"), tables("positional"), tables("heads")
        content, budget = tables("content"), tables("budget")
        renamed = {own: summary[stored] for own, stored in SCORE_TABLES.items() if stored in summary}
        by_bucket = summary.get("by_bucket")

        def buckets(kind: type[IndexerAnalysis]) -> dict[str, pl.DataFrame]:
            return {} if by_bucket is None else {"by_bucket": of_numbers(kind.numbers, by_bucket)}

        both = combine({"distribution": summary, "content": content, "budget": budget})
        selection = {**budget, **content, **both, **buckets(TokenSelection)}
        probed = heads.get("per_sample", pl.DataFrame(schema={"sample": pl.Int32}))["sample"].unique()
        parts = (
            RelevanceDistribution.of(model, samples, {**summary, **renamed, **buckets(RelevanceDistribution)}, notes),
            TokenSelection.of(model, samples, selection, notes),
            PositionalBias.of(model, samples, places_of, notes),
            IndexerHeads.of(model, samples.filter(pl.col("sample").is_in(probed.implode())), heads, notes),
        )
        whole = combine({part.kind: part for part in parts})
        return StoredAnalysis(model, samples, whole["metrics"], whole["per_sample"], notes, *parts)

    def _dataset(self, model: str) -> str:
        """What tells the study's dataset from others: a hash over the token ids of all samples."""
        manifest = self._store.manifest(self._features[model])
        return "" if manifest is None else str(manifest.inputs.get("dataset", ""))

    def _places_or_raise(self, model: str) -> dict[str, tuple[StepKey, str]]:
        with plain_errors():
            return self._places(model)

    def _places(self, model: str) -> dict[str, tuple[StepKey, str]]:
        """Step and stored name of every table of a model."""
        if model not in self._features:
            known = ", ".join(self.models)
            raise IndexscopeError(f"model {model!r}", f"is not in the study {self.name}", f"choose one of {known}")
        features = self._features[model]
        found = {name: (features, name) for name in self._store.tables(features)}
        probe = self._probe(model)
        if probe is not None:
            found |= {f"probe.{name}": (probe, name) for name in self._store.tables(probe)}
        for analysis, key in self._analyses.get(model, {}).items():
            found |= {f"{analysis}.{name}": (key, name) for name in self._store.tables(key)}
        return found

    def _probe(self, model: str) -> StepKey | None:
        """The step of the probe, which the analyses that read it name among their inputs."""
        for key in self._analyses.get(model, {}).values():
            manifest = self._store.manifest(key)
            digest = None if manifest is None else manifest.inputs.get("probe")
            if isinstance(digest, str):
                return StepKey("probes", digest, {})
        return None


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
        opened = Store(source)
        if source.endswith(".json") or opened.folder.exists(REPORT):
            return _of_report(source, study, store)
        if store is not None:
            raise IndexscopeError(source, f"holds no {REPORT}, so that store= has no meaning", "leave store= out")
        if not record_files(opened):
            there = opened.folder.sizes()
            reason = f"holds no {REPORT} and no finished study" if there else "is no report and no store"
            raise IndexscopeError(source, reason, REMEDY)
        return LoadedStudy(opened, _chosen(opened, study))


def _chosen(store: Store, study: str | None) -> StudyRecord:
    """The finished run that is meant; what is said of several names the argument of `load`."""
    try:
        return choose_study(store, study, finished=True)
    except IndexscopeError as error:
        raise IndexscopeError(error.where, error.reason, error.remedy.replace("--study:", "study=:")) from None


def _of_report(source: str, study: str | None, store: str | os.PathLike[str] | None) -> LoadedStudy:
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
            return LoadedStudy(opened, own[-1])
    if not stores:
        reason = "does not say where its store is, and no .indexscope lies in a folder above it"
        raise IndexscopeError(source, reason, "give it as store=, or load the store itself")
    reason = f"was not made from {', '.join(opened.url for opened in stores)}, or is no longer in it"
    raise IndexscopeError(source, reason, "give its own store as store=, or run the study again")


def _analyses_of(store: Store, record: StudyRecord) -> dict[str, dict[str, StepKey]]:
    """The analyses of each model, as the study's report lists them."""
    for path in record.steps:
        if path.startswith("reports/"):
            manifest = store.manifest(key_at(path))
            listed = None if manifest is None else manifest.inputs.get("models")
            if isinstance(listed, list):
                known = {step.removeprefix(ANALYSES) for step in record.steps if step.startswith(ANALYSES)}
                return {
                    str(entry["name"]): {
                        name: StepKey(f"{ANALYSES}{name}", str(digest), {})
                        for name, digest in entry.items()
                        if f"{name}/{digest}" in known
                    }
                    for entry in listed
                    if isinstance(entry, dict)
                }
    raise IndexscopeError(store.url, f"no longer has a list of the analyses of {record.study}", "run the study again")
