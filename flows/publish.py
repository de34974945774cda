"""A stored report written out as files, and shown in Prefect as artifacts."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.exceptions import PrefectException

from analysis.report.over_time import with_history
from flows.config import Study
from flows.history import remember
from flows.narrate import say
from indexscope.errors import one_line
from storage.reports import write_report
from storage.store import StepKey, Store
from tasks.compare import RESULT

#: Columns of the comparison that a table of artifacts has room for.
SHOWN = ("candidate", "metric", "unit", "baseline", "value", "difference", "ci_low", "ci_high", "n", "better")


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
    """Write the report's files and Prefect's artifacts."""
    stored = {row["name"]: row["content"] for row in store.read(key, "files", [RESULT]).iter_rows(named=True)}
    files = with_history(stored, remember(store, study, key, stored, say))
    write_report(folder, files)
    comparisons = store.read(key, "summary", [RESULT])
    gates = store.read(key, "gates", [RESULT])
    try:
        create_markdown_artifact(files["report.md"], key=f"{study.slug}-summary", description=study.name)
        create_table_artifact(rows_of(comparisons), key=f"{study.slug}-comparison", description=study.name)
        link = folder if "://" in folder else Path(folder).resolve().as_uri()
        create_link_artifact(f"{link}/report.html", link_text=study.name, key=f"{study.slug}-report")
    except (httpx.HTTPError, PrefectException) as error:
        # The report is on disk; a server that is away must not make the study fail.
        logging.getLogger(__name__).warning("Prefect took no artifacts: %s", error)
    failed = gates.filter(~pl.col("passed").fill_null(value=False))["name"].to_list()
    warnings = [one_line(warning["text"]) for warning in json.loads(files["report.json"])["warnings"]]
    return Finished(folder, tuple(failed), tuple(warnings))


def rows_of(comparisons: pl.DataFrame) -> list[dict[str, Any]]:
    """The comparison over all layers as rows that JSON can hold: no NaN, no infinity."""
    overall = comparisons.filter(pl.col("layer").is_null()) if "layer" in comparisons.columns else comparisons
    columns = [column for column in SHOWN if column in overall.columns]
    return [{key: _clean(value) for key, value in row.items()} for row in overall.select(columns).iter_rows(named=True)]


def _clean(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
