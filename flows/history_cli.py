"""The command that shows a study over time."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexscope import IndexscopeError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from indexscope.analysis.history import Stretch
    from indexscope.analysis.report.history_rows import Cell, Series
    from indexscope.storage.store import Store

HEADS = ("run", "when (UTC)", "what changed", "gates", "report")
STYLES = {"better": "green", "worse": "red"}
LEGEND = "↑ ↓ detected against the run before, ≈ not detected, = equal; in brackets the run's own interval"


@dataclass(frozen=True)
class _Shown:
    """What is shown: the study's name, all its stretches, those that were asked for, and the columns."""

    study: str
    history: Sequence[Stretch]
    rows: Sequence[Stretch]
    series: Sequence[Series]
    reports: Mapping[str, str]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(one.model for one in self.series))


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
    from indexscope.analysis.history import known_metrics
    from indexscope.flows.history import history_of, past

    store, identity, name = _chosen(source, study)
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
        shown = _Shown(name, history, rows, _series(history, metric or [], model or [], as_json), reports)
    from indexscope.flows.tables import emit

    if as_json:
        print(json.dumps(_json(shown, store.url, identity), ensure_ascii=False, allow_nan=False))
    elif as_markdown:
        emit(_markdown(shown))
    else:
        _print(shown)


def _chosen(source: str, name: str | None) -> tuple[Store, str, str]:
    """The store, the identity of a study in it, and its name."""
    from indexscope.flows.store_cli import existing_store
    from indexscope.storage.history import studies
    from indexscope.storage.store import Store
    from indexscope.storage.studies import read_records

    if Path(source).suffix in (".yaml", ".yml"):
        from indexscope.flows.config import identity_of
        from indexscope.flows.load import load_study

        study = load_study(source)
        return Store(study.store), identity_of(study), study.name
    store = existing_store(source)
    known = studies(store) | {record.identity: record.study for record in read_records(store)}
    found = {identity: title for identity, title in known.items() if name in (None, title, identity)}
    if not known:
        raise IndexscopeError(source, "has no record of any study", "give a store in which a study has run")
    if not found:
        raise IndexscopeError(source, f"knows no study {name!r}", f"choose one of: {', '.join(sorted(known.values()))}")
    if len(found) > 1:
        titles = set(found.values())
        choices = sorted(titles if len(titles) == len(found) else found)
        raise IndexscopeError(source, "holds several studies", f"choose one with --study: {', '.join(choices)}")
    ((identity, title),) = found.items()
    return store, identity, title


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise IndexscopeError("--since", f"{text!r} is no date", "write it as 2026-03-01 or 2026-03-01T06:30") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _series(history: Sequence[Stretch], metrics: list[str], models: list[str], every: bool) -> list[Series]:
    from indexscope.analysis.history import default_metrics, main_models, models_of
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


def _print(shown: _Shown) -> None:
    from indexscope.analysis.report.names import plain
    from indexscope.flows.tables import emit, fits, new_console, show

    if not shown.rows:
        newest = shown.history[-1].dates[-1]
        emit(f"no such run; the newest of {len(shown.history)} results is of {newest:%Y-%m-%d}\n")
        return
    models = shown.models
    emit(plain(shown.study) + (f": {plain(models[0])}" if len(models) == 1 else "") + "\n")
    whole = _table(shown, HEADS, shown.series)
    if len(models) < 2 and fits(new_console(), whole):
        show(whole)
    else:
        show(_table(shown, HEADS, ()))
        for name in models:
            emit(f"\n{plain(name)}\n")
            show(_table(shown, HEADS[:1], [one for one in shown.series if one.model == name]))
    if shown.series and len(shown.rows) > 1:
        emit(f"{LEGEND}\n")
    for line in _breaks(shown):
        emit(f"{line}\n")


def _table(shown: _Shown, heads: Sequence[str], series: Sequence[Series]) -> Table:
    from indexscope.flows.tables import new_table

    table = new_table(*heads, *map(_head, series))
    for stretch in shown.rows:
        table.add_row(*_told(shown, stretch)[: len(heads)], *(_styled(_cell(one, stretch)) for one in series))
    return table


def _told(shown: _Shown, stretch: Stretch) -> tuple[str, ...]:
    from indexscope.analysis.report.history_rows import change_text, date, gates_text

    when = date(stretch.dates[0])
    if len(stretch.dates) > 1:
        when += f", {len(stretch.dates)} runs to {date(stretch.dates[-1])}"
    report = shown.reports.get(stretch.run.result, "")
    return str(stretch.number), when, change_text(stretch), gates_text(stretch), report


def _head(one: Series) -> str:
    return one.metric + (f" ({one.unit})" if one.unit else "")


def _cell(one: Series, stretch: Stretch) -> Cell | None:
    from indexscope.analysis.report.history_rows import cell

    return cell(one.points.get(stretch.number))


def _plain(one: Cell | None) -> str:
    from indexscope.analysis.report.history_rows import sign
    from indexscope.analysis.report.numbers import DASH

    if one is None:
        return DASH
    return " ".join(
        part for part in (one.value, sign(one), "" if one.interval == DASH else f"({one.interval})") if part
    )


def _styled(one: Cell | None) -> Text:
    from rich.text import Text

    kind = one.judgement.kind if one is not None and one.judgement is not None else ""
    return Text(_plain(one), style=STYLES.get(kind, ""))


def _breaks(shown: _Shown) -> list[str]:
    from indexscope.analysis.history import breaks
    from indexscope.analysis.report.history_rows import break_text
    from indexscope.analysis.report.names import plain

    found = [f"gate {plain(one.gate)} ({one.rule}) {break_text(one)}" for one in breaks(shown.history)]
    return found or (["no gate has broken"] if any(stretch.gates for stretch in shown.history) else [])


def _markdown(shown: _Shown) -> str:
    from indexscope.analysis.report.names import markdown, plain

    heads = [*HEADS, *(f"{markdown(plain(one.model))}: {_head(one)}" for one in shown.series)]
    rows = [
        [*map(markdown, _told(shown, stretch)), *(_plain(_cell(one, stretch)) for one in shown.series)]
        for stretch in shown.rows
    ]
    lines = [heads, ["---:", *[":---"] * 4, *["---:"] * len(shown.series)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = "\n".join(f"- {markdown(line)}" for line in _breaks(shown))
    return (
        "\n\n".join(part for part in (f"# {markdown(plain(shown.study))} over time", told, table, LEGEND) if part)
        + "\n"
    )


def _json(shown: _Shown, url: str, identity: str) -> dict[str, Any]:
    from indexscope.analysis.report.history_rows import breaks_json, point_json

    rows = [
        {
            "number": stretch.number,
            "dates": [date.isoformat() for date in stretch.dates],
            "result": stretch.run.result,
            "report": shown.reports.get(stretch.run.result),
            "changed": stretch.run.changed,
            "problem": stretch.run.problem,
            "missing": stretch.missing,
            "returned": stretch.returned,
            "verdict": None if stretch.run.numbers is None else stretch.run.numbers["verdict"],
            "gates": list(stretch.gates.values()),
            "metrics": [
                point_json(one, one.points[stretch.number]) for one in shown.series if stretch.number in one.points
            ],
        }
        for stretch in shown.rows
    ]
    return {
        "store": url,
        "study": shown.study,
        "identity": identity,
        "runs": rows,
        "breaks": breaks_json(shown.history),
    }
