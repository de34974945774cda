"""A stored report written out as files, with the study's history, and shown in Prefect as artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl

from indexscope.errors import one_line
from indexscope.flows.artifacts import show_report
from indexscope.flows.config import Study
from indexscope.flows.history import remember
from indexscope.flows.narrate import say
from indexscope.storage.reports import write_report
from indexscope.storage.store import StepKey, Store
from indexscope.tasks.common.declared import RESULT


@dataclass(frozen=True)
class Finished:
    """A report that was made or found.

    Attributes:
        folder: Where it is.
        failed_gates: Names of the gates that failed.
        warnings: What makes its numbers worthless or weak, a sentence or two each.
    """

    folder: str
    failed_gates: tuple[str, ...]
    warnings: tuple[str, ...]


def publish(store: Store, key: StepKey, folder: str, study: Study) -> Finished:
    """Put the run on record, and write the report's files and Prefect's artifacts.

    The history is no input of the stored report, which stays what the study's inputs make it: the section on it is
    added to the files here.
    """
    from indexscope.analysis.report.over_time import with_history

    stored = {row["name"]: row["content"] for row in store.read(key, "files", [RESULT]).iter_rows(named=True)}
    comparisons = store.read(key, "summary", [RESULT])
    gates = store.read(key, "gates", [RESULT])
    files = with_history(stored, remember(store, study, key, stored, say))
    write_report(folder, files)
    show_report(study, files, comparisons, folder)
    failed = gates.filter(~pl.col("passed").fill_null(value=False))["name"].to_list()
    warnings = [one_line(warning["text"]) for warning in json.loads(files["report.json"])["warnings"]]
    return Finished(folder, tuple(failed), tuple(warnings))
