"""A stored report written out as files, with the study's history, and shown in Prefect as artifacts."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from indexscope.errors import one_line
from indexscope.flows.engine.narrate import say
from indexscope.flows.study.artifacts import show_report
from indexscope.flows.study.config import Study
from indexscope.flows.study.history import remember
from indexscope.storage.store.store import StepKey, Store
from indexscope.storage.studies.reports import REPORT, parse_report, report_files, write_report
from indexscope.tasks.common.declared import RESULT


@dataclass(frozen=True)
class Finished:
    """A report that was made or found.

    Attributes:
        folder: Where it is.
        failed_gates: Names of the gates that failed.
        warnings: What makes its numbers worthless or weak, a sentence or two each.
        told: What the command line tells of it.
    """

    folder: str
    failed_gates: tuple[str, ...]
    warnings: tuple[str, ...]
    told: str


def publish(store: Store, key: StepKey, folder: str, study: Study) -> Finished:
    """Put the run on record, and write the report's files and Prefect's artifacts.

    The history is no input of the stored report, which stays what the study's inputs make it: the section on it is
    added to the files here.
    """
    from indexscope.analysis.report.comment import OPENED
    from indexscope.analysis.report.over_time import picture, with_history
    from indexscope.analysis.report.told import TOLD

    stored = report_files(store, key)
    report = parse_report(stored[REPORT], store.location(key))
    comparisons = store.read(key, "summary", [RESULT])
    gates = store.read(key, "gates", [RESULT])
    history = remember(store, study, key, report, say)
    trends = picture(history)
    files = with_history(stored, history, trends)
    summary, told = files.pop(OPENED), files.pop(TOLD)
    write_report(folder, files)
    figures = store.read(key, "figures", [RESULT]).to_dicts()
    show_report(study, summary, [vars(trends), *figures] if trends else figures, comparisons, folder)
    failed = gates.filter(~pl.col("passed").fill_null(value=False))["name"].to_list()
    warnings = [one_line(warning["text"]) for warning in report["warnings"]]
    return Finished(folder, tuple(failed), tuple(warnings), told)
