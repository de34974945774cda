"""The command history: a study over time, and what of it is shown."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from indexscope import IndexscopeError
from indexscope.flows.cli.declared import Command
from indexscope.flows.cli.stores import store_and_study

if TYPE_CHECKING:
    from indexscope.analysis.history.timeline import Stretch
    from indexscope.analysis.report.history_rows import Series


def show_history(
    source: Annotated[
        str, typer.Argument(metavar="[STUDY|STORE]", help="Study file, or folder or URL of a store.")
    ] = ".indexscope",
    study: Annotated[str | None, typer.Option(help="Which study, where a store holds several.")] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="This metric, or METRIC.difference from the baseline; may be repeated."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="This model; may be repeated.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only runs from then on (UTC), e.g. 2026-03-01.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the newest so many results.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown tables.")] = False,
) -> None:
    """Show a study over time: its runs, what changed, their metrics and gates, and when each gate broke.

    Runs that followed each other with one result are one row.
    """
    from indexscope.analysis.history.trends import known_metrics
    from indexscope.flows.finished.history_shown import Shown, print_json, print_markdown, print_table
    from indexscope.flows.study.history import history_of, past
    from indexscope.storage.studies.choice import choose_identity

    store, wanted = store_and_study(source, study)
    identity, name = choose_identity(store, wanted)
    runs = past(store, identity)
    history = history_of(runs)
    if not history:
        raise IndexscopeError(name, "has no finished run on record", "run the study; each run that ends is recorded")
    first = _moment(since)
    rows = [stretch for stretch in history if first is None or stretch.dates[-1] >= first]
    rows = rows[-limit:] if limit else rows
    kept = {f"reports/{digest}" for digest in store.digests("reports")}
    reports = {run.result: run.report.rpartition("/")[2][:8] if run.report in kept else "collected" for run in runs}
    with known_metrics(history):
        shown = Shown(name, history, rows, _series(history, metric or [], model or [], as_json), reports)
    if as_json:
        print_json(shown, store.url, identity)
    elif as_markdown:
        print_markdown(shown)
    else:
        print_table(shown)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise IndexscopeError("--since", f"{text!r} is no date", "write it as 2026-03-01 or 2026-03-01T06:30") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _series(history: Sequence[Stretch], metrics: list[str], models: list[str], every: bool) -> list[Series]:
    from indexscope.analysis.history.timeline import models_of
    from indexscope.analysis.history.trends import default_metrics, main_models
    from indexscope.analysis.report.history_rows import series_of

    known = list(dict.fromkeys(name for stretch in reversed(history) for name in models_of(stretch)))
    for name in models:
        if name not in known:
            raise IndexscopeError("--model", f"no run has a model {name!r}", f"choose one of: {', '.join(known)}")
    main = main_models(history)
    # A difference is a candidate's; a baseline is shown when it is asked for, and always to machines.
    found = series_of(history, models or (known if every else main), metrics or default_metrics(history))
    for metric in metrics:
        if not any(one.metric == metric for one in found):
            raise IndexscopeError("--metric", f"no run has {metric!r}", _near(history, metric))
    return found


def _near(history: Sequence[Stretch], metric: str) -> str:
    from indexscope.analysis.history.numbers import METRIC

    numbers = [stretch.run.numbers for stretch in history if stretch.run.numbers is not None]
    names = {row[METRIC.index("name")] for one in numbers for row in one["metrics"]}
    near = difflib.get_close_matches(metric.removesuffix(".difference"), sorted(names), n=1)
    return f"did you mean {near[0]!r}?" if near else "see docs/metrics.md for the metrics there are"


COMMAND = Command(
    "history",
    show_history,
    place=140,
    examples=(
        "indexscope history study.yaml --limit 10",
        "indexscope history study.yaml --metric nll.difference --since 2026-03-01",
    ),
)
