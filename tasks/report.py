"""The report of a study, from the stored tables; kept in the store as text, so that it can be written out again."""

from __future__ import annotations

import gc

import polars as pl

from indexscope.storage.store.store import Store
from indexscope.tasks.common.declared import Job, Made, Reads, Step
from indexscope.tasks.common.plugins import with_plugins
from indexscope.tasks.common.reported import Cover, report_input
from indexscope.tasks.common.results import by_model
from indexscope.tasks.common.unit import Tables

#: Raise it when the same inputs would give another report.
VERSION = 20


def _compute(job: Job, store: Store) -> Made:
    gc.freeze()  # figures are full of circles: collecting them need not look through torch each time
    try:
        with with_plugins(job.plugins):
            return Made(_rendered(job, job.more.value, store))
    finally:
        gc.unfreeze()


def _rendered(job: Job, cover: Cover, store: Store) -> Tables:
    from indexscope.analysis.report import render
    from indexscope.analysis.report.panelled import study_pictures
    from indexscope.analysis.report.stored import FIGURES

    report = report_input(store, by_model(job.sources), cover, job.given.comparison.confidence)
    pictures = study_pictures(report)
    files = render(report, pictures)
    written = pl.DataFrame({"name": list(files), "content": list(files.values())})
    figures = pl.DataFrame([vars(one) for one in pictures], schema=FIGURES.schema, strict=False)
    return {"files": written, "figures": figures, "gates": report.gates, "summary": report.comparisons}


def _ahead() -> None:
    """Import what draws and lays out, and have fonts read and templates compiled."""
    from indexscope.analysis.plots.style import new_figure
    from indexscope.analysis.report.html_report import compile_templates
    from indexscope.analysis.report.panelled import declared_answers, panels
    from indexscope.analysis.report.pictures import picture

    panels()
    declared_answers()
    compile_templates()
    blank = new_figure(1.0)
    blank.subplots().set_title("Aa")
    picture("blank", "", "", blank)


STEP = Step(
    "report",
    "report",
    "reports",
    _compute,
    (Reads("audit"), Reads("profile"), Reads("[analyze]"), Reads("[compare]")),
    per="study",
    version=lambda: VERSION,
    ahead=_ahead,
    declares=("indexscope.analysis.report.stored:REPORTED",),
)
