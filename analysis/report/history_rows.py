"""A study's history as rows of finished text, shared by the report's section and the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from indexscope.analysis.history.gates import Break, breaks
from indexscope.analysis.history.timeline import Stretch, models_of
from indexscope.analysis.history.trends import Point, default_metrics, trend
from indexscope.analysis.leaks import LEAKS, marked
from indexscope.analysis.names import plain
from indexscope.analysis.report.json_report import finite
from indexscope.analysis.report.judgement import Judgement, judge
from indexscope.analysis.report.numbers import DASH, digits, number
from indexscope.analysis.report.sentences import join


@dataclass(frozen=True)
class Cell:
    """A metric of one model in one row, as text; how it compares with the row before, if it does."""

    value: str
    interval: str
    judgement: Judgement | None


@dataclass(frozen=True)
class Line:
    """A row of the section, as text."""

    number: int
    date: str
    changed: str
    gates: str
    failed: bool
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Series:
    """A column of the section: a metric of a model."""

    model: str
    metric: str
    unit: str
    points: Mapping[int, Point]


def series_of(history: Sequence[Stretch], models: Sequence[str], metrics: Sequence[str]) -> list[Series]:
    """The columns for which any row has a value."""
    found = []
    for model in models:
        for metric in metrics:
            if points := trend(history, model, metric):
                at = {point.stretch.number: point for point in points}
                found.append(Series(model, metric, points[-1].unit, at))
    return found


def cell(point: Point | None) -> Cell | None:
    """A point as text: as many digits as its interval allows."""
    if point is None:
        return None
    style = digits(point.unit, (point.value,), (point.ci_low, point.ci_high))
    interval = style.span(point.ci_low, point.ci_high)
    return Cell(marked(style.number(point.value), point.leaks), interval, judged(point))


def judged(point: Point) -> Judgement | None:
    """How a number compares with the row before; the very same number is equal, whatever its interval."""
    if point.step is None:
        return None
    found = judge(point.step)
    return Judgement("same") if point.step.get("difference") == 0 and found.kind != LEAKS else found


def sign(one: Cell | None) -> str:
    """How a cell compares with the row before: ↑ or ↓ where that is sure, ≈ where it is not, = where it is equal."""
    if one is None or one.judgement is None:
        return ""
    signs = {"same": "=", "inconclusive": "≈", "equivalent": "≈", "uncertain": "", "missing": "", "leaks": ""}
    return signs.get(one.judgement.kind, one.judgement.arrow)


def gates_text(stretch: Stretch) -> str:
    """How many gates passed, or a dash where there are none."""
    gates = stretch.gates
    passed = sum(gate["passed"] is True for gate in gates.values())
    return f"{passed} of {len(gates)} passed" if gates else DASH


def break_text(found: Break) -> str:
    """When a gate broke and was mended, in a sentence."""
    first = date(found.broke.dates[0])
    value = f"value {number(found.value)}" if found.value is not None else "no value"
    if found.before is None:
        start = f"has not passed since the first run on record, {first} ({value})"
    else:
        why = f"; {found.broke.run.changed}" if found.broke.run.changed else ""
        results = "1 result before it is" if found.lost == 1 else f"{found.lost} results before it are"
        lost = f"; {results} lost, so it may have broken earlier" if found.lost else ""
        start = f"broke at run {found.broke.number}, {first} ({value}{why}{lost})"
    if found.mended is not None:
        after = found.mended.gates[found.gate]["rule"]
        how = f" under another rule, {after}" if after != found.rule else ""
        return f"{start}, mended at run {found.mended.number}, {date(found.mended.dates[0])}{how}"
    if found.dropped is not None:
        return f"{start}, dropped from the study at run {found.dropped.number}, {date(found.dropped.dates[0])}"
    return f"{start}, and is still broken" if found.before is not None else start


def date(when: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def as_json(history: Sequence[Stretch]) -> dict[str, Any]:
    """The section for machines: its rows with the headline metrics of all models, and the breaks of gates."""
    models = list(dict.fromkeys(name for stretch in reversed(history) for name in models_of(stretch)))
    series = series_of(history, models, default_metrics(history))
    return {"runs": [_row(stretch, series) for stretch in history], "breaks": breaks_json(history)}


def point_json(one: Series, point: Point) -> dict[str, Any]:
    """A number as JSON values: itself, and ``step``, its difference from the row before."""
    judgement = judged(point)
    step = None
    if point.step is not None and judgement is not None:
        step = {key: finite(point.step.get(key)) for key in ("difference", "ci_low", "ci_high", "interval", "better")}
        step["reading"] = judgement.kind
    return {
        "model": one.model,
        "metric": one.metric,
        "unit": point.unit,
        "value": finite(point.value),
        "ci_low": finite(point.ci_low),
        "ci_high": finite(point.ci_high),
        "n": point.n,
        "leaks": point.leaks,
        "step": step,
    }


def breaks_json(history: Sequence[Stretch]) -> list[dict[str, Any]]:
    """The breaks of gates as JSON values; runs by their numbers."""
    return [
        {
            "gate": found.gate,
            "rule": found.rule,
            "value": finite(found.value),
            "broke": found.broke.number,
            "broke_at": found.broke.dates[0].isoformat(),
            "since_first": found.before is None,
            "lost_before": found.lost,
            "mended": found.mended.number if found.mended else None,
            "mended_at": found.mended.dates[0].isoformat() if found.mended else None,
            "dropped": found.dropped.number if found.dropped else None,
        }
        for found in breaks(history)
    ]


def _row(stretch: Stretch, series: Sequence[Series]) -> dict[str, Any]:
    return {
        "number": stretch.number,
        "first": stretch.dates[0].isoformat(),
        "changed": stretch.run.changed,
        "problem": stretch.run.problem,
        "missing": stretch.missing,
        "leaks": stretch.leaks,
        "returned": stretch.returned,
        "gates": list(stretch.gates.values()),
        "metrics": [point_json(one, one.points[stretch.number]) for one in series if stretch.number in one.points],
    }


def lines(history: Sequence[Stretch], series: Sequence[Series]) -> list[Line]:
    """The rows of the section, one a stretch."""
    return [
        Line(
            stretch.number,
            date(stretch.dates[0]),
            change_text(stretch),
            gates_text(stretch),
            any(gate["passed"] is not True for gate in stretch.gates.values()),
            tuple(cell(one.points.get(stretch.number)) for one in series),
        )
        for stretch in history
    ]


def change_text(stretch: Stretch) -> str:
    """What set a stretch apart from the one before, with what is missing or lost of it."""
    parts = [f"incomplete, without {join([plain(name) for name in stretch.missing])}" if stretch.missing else ""]
    parts += [f"{plain(name)} leaks" for name in stretch.leaks]
    parts += [stretch.run.changed or ("the first on record" if stretch.number == 1 else "")]
    if stretch.returned is not None:
        parts.append(f"the result of run {stretch.returned} again")
    parts.append(stretch.run.problem)
    return "; ".join(part for part in parts if part)
