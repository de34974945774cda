"""The figures of a finished study, drawn one at a time from its stored results."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexscope import IndexscopeError
from indexscope.flows.finished.study_files import in_store, study_of
from indexscope.storage.store.store import Store
from indexscope.storage.studies.finished import FinishedStudy, is_report, open_finished
from indexscope.storage.studies.records import read_records
from indexscope.storage.studies.reports import read_report
from indexscope.tasks.common.reported import Cover, ReportedModel, report_input

if TYPE_CHECKING:
    from indexscope.analysis.report import ReportInput
    from indexscope.analysis.report.panel import Drawn

REMEDY = "give a study file, a store, or a report's folder with --store"
#: Where a report's results are looked for.
STORE = ".indexscope"


@dataclass(frozen=True)
class Offered:
    """A figure that can be drawn.

    Attributes:
        name: What a user calls it.
        title: Its title.
        models: The models that it can be drawn of, one at a time; none where it is over all models.
    """

    name: str
    title: str
    models: tuple[str, ...] = ()


def finished_study(source: str, study: str | None, store: str | None) -> FinishedStudy:
    """The run that a study file, a store or a report means.

    Args:
        source: Study file, store, or report (folder or .json file).
        study: Which study of a store.
        store: Where a report's results are; by default the usual store of the folder that one is in.

    Raises:
        IndexscopeError: There is none, or several to choose from.
    """
    if (known := study_of(source, study)) is not None:
        place, name = in_store(known)
        return open_finished(place.url, name, REMEDY)
    if not is_report(source):
        return open_finished(source, study, REMEDY)
    report = read_report(source)
    where = store or STORE
    wanted = {name: one.get("features") for name, one in report["provenance"].get("checkpoints", {}).items()}
    records = [
        record
        for record in read_records(Store(where))
        if record.complete and record.study == report["study"] and dict(record.models) == wanted
    ]
    if not records:
        remedy = "name their store with --store, or give the study file"
        raise IndexscopeError(source, f"the results behind this report are not in {where}", remedy)
    return FinishedStudy(Store(where), max(records, key=lambda record: record.seen))


def read_shown(run: FinishedStudy) -> ReportInput:
    """What the report of a run shows, as its figures are drawn from it: names of models that leak say so."""
    from indexscope.tasks.common.registry import STEPS

    per_study = {step.name for step in STEPS.values() if step.per == "study" and step.name != "report"}
    report = run.report
    roles = {one["name"]: one for one in report["models"]}
    models = [
        ReportedModel(name, one["role"], one["fingerprint"], one.get("dump") or "") for name, one in roles.items()
    ]
    keys = {model: dict(own) for model, own in run.steps.items()}
    keys[""] = {step: key for step, key in keys[""].items() if step in per_study}
    confidence = report["provenance"].get("settings", {}).get("comparison", {}).get("confidence", 0.95)
    return report_input(
        run.store, keys, Cover(run.name, models, (), report["provenance"], {}), confidence
    ).for_readers()


def offered(report: ReportInput) -> list[Offered]:
    """All figures that can be drawn, in the order of the page."""
    found: dict[str, Offered] = {}
    for model, drawn in _all(report):
        old = found.get(drawn.name)
        models = (*(old.models if old else ()), *([model] if model else []))
        found[drawn.name] = Offered(drawn.name, old.title if old else drawn.title, models)
    return list(found.values())


def one_figure(report: ReportInput, name: str, model: str | None) -> Drawn:
    """Draw one figure.

    Args:
        report: What is shown.
        name: What the figure is called.
        model: The model, for a figure of one; where a study has a single one it need not be named.

    Raises:
        IndexscopeError: There is no such figure, or a model has to be named.
    """
    if model is not None and model not in report.names:
        raise IndexscopeError(
            f"--model {model}", "is no model of the study", f"choose one of {', '.join(report.names)}"
        )
    seen: dict[str, list[str]] = {}
    for of, drawn in _all(report):
        seen.setdefault(drawn.name, []).append(of)
        if drawn.name == name and of == (model or ""):
            return drawn
    owners = seen.get(name)
    if owners is None:
        close = difflib.get_close_matches(name, seen, 1)
        remedy = f"did you mean {close[0]!r}?" if close else "indexscope figure SOURCE lists all"
        raise IndexscopeError(name, "is no figure of this study", remedy)
    if owners == [""]:
        raise IndexscopeError(f"--model {model}", f"the figure {name} is over all models", "leave --model out")
    if model is None and len(owners) == 1:
        return one_figure(report, name, owners[0])
    raise IndexscopeError(name, "is drawn of one model", f"choose it with --model: {', '.join(owners)}")


def _all(report: ReportInput) -> Iterator[tuple[str, Drawn]]:
    """Every figure that has something to show, those over all models first, each with its model's name or ""."""
    from indexscope.analysis.report.panelled import asked, panels

    for panel in panels():
        yield from (("", drawn) for drawn in _shown(panel.across(report)))
    for page in report.models:
        for panel, frames in asked(page):
            yield from ((page.name, drawn) for drawn in _shown(panel.draw(frames)))


def _shown(drawn: Sequence[Drawn]) -> Iterator[Drawn]:
    return (one for one in drawn if one.figure is not None)
