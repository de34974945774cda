"""The one reader of a finished study: its models, the steps that its report was made from, their tables, its report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import polars as pl

from indexscope.errors import IndexscopeError
from indexscope.storage.store.json_types import JSON
from indexscope.storage.store.keys import StepKey, key_at
from indexscope.storage.store.lazy import Lazy
from indexscope.storage.store.store import Store
from indexscope.storage.studies.choice import choose_run
from indexscope.storage.studies.records import StudyRecord, record_files
from indexscope.storage.studies.reports import REPORT, parse_report, report_files


class FinishedStudy:
    """A finished run of a study. Nothing but its record is read before it is asked for.

    Attributes:
        store: Its store.
        record: The record of the run.
        report_key: Address of its report.
        name: The study's name.
        models: Role of each model by its name, the baseline first.
    """

    def __init__(self, store: Store, record: StudyRecord) -> None:
        self.store, self.record, self.name = store, record, record.study
        self.report_key = key_at(record.report)
        self.models = {model: "candidate" if place else "baseline" for place, model in enumerate(record.models)}

    @cached_property
    def report(self) -> dict[str, Any]:
        """The content of its report.json, with the checks and the errors of any report's."""
        text = report_files(self.store, self.report_key).get(REPORT, "")
        return parse_report(text, f"{self.store.url} ({self.name})")

    def inputs(self, key: StepKey) -> Mapping[str, JSON]:
        """What a step was made from, as its manifest says; empty where that is gone."""
        manifest = self.store.manifest(key)
        return {} if manifest is None else manifest.inputs

    @cached_property
    def steps(self) -> dict[str, dict[str, StepKey]]:
        """Addresses of the steps that the report was made from, by model ("" for those of the study) and by step.

        The report's manifest names them, and their manifests what they were made from in turn.

        Raises:
            IndexscopeError: The report's manifest is gone.
        """
        paths = {path.rpartition("/")[2]: path for path in self.record.steps}

        def followed(inputs: Mapping[str, JSON], found: dict[str, StepKey]) -> dict[str, StepKey]:
            for name, digest in inputs.items():
                if name not in found and isinstance(digest, str) and digest in paths:
                    found[name] = key_at(paths[digest])
                    followed(self.inputs(found[name]), found)
            return found

        made_from = self.inputs(self.report_key)
        listed = made_from.get("models")
        if not isinstance(listed, list):
            reason = f"no longer has a list of the steps behind the report of {self.name}"
            raise IndexscopeError(self.store.url, reason, "run the study again")
        entries = {entry["name"]: entry for entry in listed if isinstance(entry, dict)}
        return {"": followed(made_from, {})} | {model: followed(entries.get(model, {}), {}) for model in self.models}

    def tables(self, model: str) -> Lazy[pl.DataFrame]:
        """A model's tables, read when they are asked for: its features by their own names, all others as "step.table".

        Raises:
            IndexscopeError: The study has no such model, or some of its steps are gone.
        """
        if model not in self.models:
            known = ", ".join(self.models)
            raise IndexscopeError(f"model {model!r}", f"is not in the study {self.name}", f"choose one of {known}")
        features = key_at(self.record.models[model])
        places = {name: (features, name) for name in self.store.tables(features)}
        for step, key in self.steps[model].items():
            if key != features:
                places |= {f"{step}.{name}": (key, name) for name in self.store.tables(key)}
        return Lazy(places, lambda place: self.store.read(*place))


def is_report(source: str) -> bool:
    """Whether something is to be read as a report: a .json file or a folder that holds one; not looked into."""
    return source.endswith(".json") or Store(source).folder.exists(REPORT)


def open_finished(
    source: str | os.PathLike[str], study: str | None, remedy: str, option: str = "--study"
) -> FinishedStudy:
    """The newest finished run in a store; see `indexscope.storage.studies.choice.choose_run`.

    Raises:
        IndexscopeError: It is no store (the remedy says what to give instead), no study has finished in it, or there
            are several and none is named.
    """
    store = Store(source)
    if not record_files(store):
        there = store.folder.sizes()
        reason = f"holds no {REPORT} and no finished study" if there else "is no report and no store"
        raise IndexscopeError(source, reason, remedy)
    return FinishedStudy(store, choose_run(store, study, finished=True, option=option))
