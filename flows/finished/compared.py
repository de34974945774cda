"""The sides of a difference: a report, a store or a study file, on a disk or at a URL. No code of a user's is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexscope import IndexscopeError
from indexscope.flows.finished.study_files import in_store, study_of
from indexscope.storage.studies.finished import FinishedStudy, is_report, open_finished
from indexscope.storage.studies.records import read_records
from indexscope.storage.studies.reports import read_report
from indexscope.tasks.common.features import ANALYSES
from indexscope.tasks.common.results import RESULT, stored_models

if TYPE_CHECKING:
    import polars as pl

    from indexscope.flows.study.config import Study

REMEDY = "give a report's folder, a store or a study file"


@dataclass(frozen=True)
class Compared:
    """One side of a difference.

    Attributes:
        source: What the user called it.
        report: The content of its report.json.
        models: What a comparison reads of each model, read when it is asked for; None where only a report is at hand.
        lacking: Why there is no `models`.
    """

    source: str
    report: Mapping[str, Any]
    models: Mapping[str, Mapping[str, pl.DataFrame]] | None = None
    lacking: str = ""


def read_both(a: str, b: str | None, studies: Sequence[str]) -> tuple[Compared, Compared]:
    """Read both sides; without a second one, both are the first.

    Args:
        a: What `read_compared` takes.
        b: The same, or None.
        studies: No name; one, for every store; or one for each side.

    Raises:
        IndexscopeError: A side cannot be read, or the names do not fit the sides.
    """
    sources = [a] if b is None else [a, b]
    if len(studies) > len(sources):
        raise IndexscopeError(f"--study {studies[-1]}", "is one name too many", "give one for each store")
    if len(studies) == len(sources):
        names: list[str | None] = [*studies]
    else:
        name = studies[0] if studies else None
        names = [None if source.endswith((".yaml", ".yml")) or is_report(source) else name for source in sources]
        if studies and not any(names):
            raise IndexscopeError(f"--study {studies[0]}", "neither side is a store", "leave --study out")
    sides = [read_compared(source, name) for source, name in zip(sources, names, strict=True)]
    return sides[0], sides[-1]


def read_compared(source: str, study: str | None = None) -> Compared:
    """Read one side.

    Args:
        source: Report folder, report (ending in .json), store or study file; a local path or a URL.
        study: Which study of a store, by name or identity.

    Raises:
        IndexscopeError: There is nothing that can be read, or a store holds several studies and none is named.
    """
    if (known := study_of(source, study)) is not None:
        return _of_study(source, known)
    if not is_report(source):
        return _of_run(source, open_finished(source, study, REMEDY))
    if study is not None:
        raise IndexscopeError(f"--study {study}", f"{source} is a report, not a store", "leave --study out")
    return Compared(source, read_report(source), lacking="is a report, which holds no values by sample")


def _of_study(source: str, study: Study) -> Compared:
    """A study's newest finished run in its store; the report that was written, where the store has none."""
    store, name = in_store(study)
    if any(record.complete and name in (record.identity, record.study) for record in read_records(store)):
        return _of_run(source, open_finished(study.store, name, REMEDY))
    report = read_report(f"{study.report.rstrip('/')}/{study.slug}")
    return Compared(source, report, lacking="has no finished run in its store, only a report")


def _of_run(source: str, run: FinishedStudy) -> Compared:
    try:
        steps = {model: run.steps[model].items() for model in run.models}
    except IndexscopeError as error:
        return Compared(source, run.report, lacking=error.reason)
    models = {model: {name: key for name, key in own if key.kind.startswith(ANALYSES)} for model, own in steps.items()}
    for key in (key for own in models.values() for key in own.values()):
        if run.store.unit_status(key, RESULT) == "missing":
            return Compared(source, run.report, lacking=f"no longer has {key.path}")
    return Compared(source, run.report, stored_models(run.store, models))
