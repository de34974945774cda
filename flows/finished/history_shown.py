"""A study over time, told: a table for people, Markdown for a pull request, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from indexscope.analysis.history.gates import breaks
from indexscope.analysis.history.timeline import Stretch
from indexscope.analysis.names import markdown, plain
from indexscope.analysis.report.history_rows import (
    Cell,
    Series,
    break_text,
    breaks_json,
    cell,
    change_text,
    date,
    gates_text,
    point_json,
    sign,
)
from indexscope.analysis.report.numbers import DASH
from indexscope.flows.tables import emit, fits, new_console, new_table, show

HEADS = ("run", "when (UTC)", "what changed", "gates", "report")
STYLES = {"better": "green", "worse": "red"}
LEGEND = "↑ ↓ detected against the run before, ≈ not detected, = equal; in brackets the run's own interval"


@dataclass(frozen=True)
class Shown:
    """What is shown: the study's name, all its stretches, those that were asked for, and the columns."""

    study: str
    history: Sequence[Stretch]
    rows: Sequence[Stretch]
    series: Sequence[Series]
    reports: Mapping[str, str]

    @property
    def models(self) -> list[str]:
        """Names of the models that have a column."""
        return list(dict.fromkeys(one.model for one in self.series))


def print_table(shown: Shown) -> None:
    """Print one table; where it would be too wide, one of the runs and one a model."""
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


def print_markdown(shown: Shown) -> None:
    """Print headings, the gates that broke, and one table."""
    heads = [*HEADS, *(f"{markdown(plain(one.model))}: {_head(one)}" for one in shown.series)]
    rows = [
        [*map(markdown, _told(shown, stretch)), *(_plain(_cell(one, stretch)) for one in shown.series)]
        for stretch in shown.rows
    ]
    lines = [heads, ["---:", *[":---"] * 4, *["---:"] * len(shown.series)], *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    told = "\n".join(f"- {markdown(line)}" for line in _breaks(shown))
    parts = (f"# {markdown(plain(shown.study))} over time", told, table, LEGEND)
    emit("\n\n".join(part for part in parts if part) + "\n")


def print_json(shown: Shown, url: str, identity: str) -> None:
    """Print one object: the store, the study, its runs with their metrics, and the gates that broke."""
    rows = [
        {
            "number": stretch.number,
            "dates": [moment.isoformat() for moment in stretch.dates],
            "result": stretch.run.result,
            "report": shown.reports.get(stretch.run.result),
            "changed": stretch.run.changed,
            "problem": stretch.run.problem,
            "missing": stretch.missing,
            "leaks": stretch.leaks,
            "returned": stretch.returned,
            "verdict": None if stretch.run.numbers is None else stretch.run.numbers["verdict"],
            "gates": list(stretch.gates.values()),
            "metrics": [
                point_json(one, one.points[stretch.number]) for one in shown.series if stretch.number in one.points
            ],
        }
        for stretch in shown.rows
    ]
    told = {
        "store": url,
        "study": shown.study,
        "identity": identity,
        "runs": rows,
        "breaks": breaks_json(shown.history),
    }
    print(json.dumps(told, ensure_ascii=False, allow_nan=False))


def _table(shown: Shown, heads: Sequence[str], series: Sequence[Series]) -> Table:
    table = new_table(*heads, *map(_head, series))
    for stretch in shown.rows:
        table.add_row(*_told(shown, stretch)[: len(heads)], *(_styled(_cell(one, stretch)) for one in series))
    return table


def _told(shown: Shown, stretch: Stretch) -> tuple[str, ...]:
    when = date(stretch.dates[0])
    if len(stretch.dates) > 1:
        when += f", {len(stretch.dates)} runs to {date(stretch.dates[-1])}"
    report = shown.reports.get(stretch.run.result, "")
    return str(stretch.number), when, change_text(stretch), gates_text(stretch), report


def _head(one: Series) -> str:
    return one.metric + (f" ({one.unit})" if one.unit else "")


def _cell(one: Series, stretch: Stretch) -> Cell | None:
    return cell(one.points.get(stretch.number))


def _plain(one: Cell | None) -> str:
    if one is None:
        return DASH
    return " ".join(
        part for part in (one.value, sign(one), "" if one.interval == DASH else f"({one.interval})") if part
    )


def _styled(one: Cell | None) -> Text:
    kind = one.judgement.kind if one is not None and one.judgement is not None else ""
    return Text(_plain(one), style=STYLES.get(kind, ""))


def _breaks(shown: Shown) -> list[str]:
    found = [f"gate {plain(one.gate)} ({one.rule}) {break_text(one)}" for one in breaks(shown.history)]
    return found or (["no gate has broken"] if any(stretch.gates for stretch in shown.history) else [])
