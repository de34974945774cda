"""The section "Over time": a study's earlier results beside this one. It is added when a report is published.

A stored report is what its inputs make it, whatever ran before, so it has only places for this section. Rows are dated
by the first run that had the result: running an unchanged study again gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import polars as pl

from indexscope.analysis.comparison.gates import parse_rule
from indexscope.analysis.history.gates import breaks
from indexscope.analysis.history.timeline import Stretch
from indexscope.analysis.history.trends import DIFFERENCE, default_metrics, known_metrics, main_models
from indexscope.analysis.names import markdown, plain
from indexscope.analysis.report.comment import LONGEST, OPENED, Comment, size, table
from indexscope.analysis.report.history_rows import Cell, Series, as_json, break_text, lines, series_of, sign
from indexscope.analysis.report.json_report import dump
from indexscope.analysis.report.numbers import DASH
from indexscope.analysis.report.page import templates
from indexscope.errors import IndexscopeError

if TYPE_CHECKING:  # what draws imports matplotlib, and most studies have nothing to draw here
    from indexscope.analysis.plots.trends import Marks
    from indexscope.analysis.report.pictures import Picture

#: Where the section and the link to it go; what comes from outside is escaped, so nobody else can write this.
PLACE, LINK = "<!-- over time -->", "<!-- link to over time -->"
#: Rows that a report shows; `indexscope history` shows all.
SHOWN = 30
TITLE = "Over time"


def with_history(files: Mapping[str, str], history: Sequence[Stretch], drawn: Picture | None) -> dict[str, str]:
    """A report's files with the section, or without its places where there are no two results to show.

    Args:
        files: Text of ``report.html``, ``report.json`` and of the Markdown in its two forms, as they were rendered.
        history: The study's results in order; the newest is the report's own.
        drawn: Its `picture`.

    Returns:
        The same files; in ``report.json`` the section is the key ``history``.
    """
    with known_metrics(history):
        return _with(files, history, drawn)


def _with(files: Mapping[str, str], history: Sequence[Stretch], drawn: Picture | None) -> dict[str, str]:
    told = len(history) > 1
    html = _html(history, drawn) if told else ""
    texts = {name: _markdown(history, files[name], name == OPENED) if told else "" for name in ("report.md", OPENED)}
    link = f'<li><a href="#over-time">{TITLE}</a></li>' if told else ""
    content = json.loads(files["report.json"])
    return {
        **files,
        "report.html": _put(_put(files["report.html"], PLACE, html), LINK, link),
        **{name: _put(files[name], PLACE, text) for name, text in texts.items()},
        "report.json": dump({**content, "history": as_json(history)}) if told else files["report.json"],
    }


def _put(text: str, place: str, content: str) -> str:
    """Put content where its place is; an empty one takes the place's line with it."""
    if content:
        return text.replace(place, content, 1)
    return text.replace(f"{place}\n\n", "", 1) if f"{place}\n\n" in text else text.replace(f"{place}\n", "", 1)


def _columns(history: Sequence[Stretch]) -> list[Series]:
    return series_of(history[-SHOWN - 1 :], main_models(history), default_metrics(history))


def _omitted(history: Sequence[Stretch]) -> str:
    older = len(history) - SHOWN
    return f"The {older} results before these are left out; indexscope history shows them." if older > 0 else ""


def _html(history: Sequence[Stretch], drawn: Picture | None) -> str:
    series = _columns(history)
    template = templates().get_template("over_time.html.j2")
    return template.render(
        title=TITLE,
        series=series,
        lines=lines(history[-SHOWN:], series),
        breaks=[(plain(found.gate), found.rule, break_text(found), found.is_open) for found in breaks(history)],
        has_gates=any(stretch.gates for stretch in history),
        picture=drawn,
        omitted=_omitted(history),
        dash=DASH,
    )


def _markdown(history: Sequence[Stretch], text: str, opened: bool) -> str:
    """The section in the room that a text leaves: the breaks, then the table, and a word on what found no room."""
    series = _columns(history)
    heads = ["run", "first on (UTC)", "what changed", "gates"]
    heads += [f"{markdown(plain(one.model))}: {one.metric}{f' ({one.unit})' if one.unit else ''}" for one in series]
    rows = []
    for line in lines(history[-SHOWN:], series):
        cells = [_text(one) for one in line.cells]
        rows.append([str(line.number), line.date, markdown(line.changed), line.gates, *cells])
    comment = Comment(LONGEST - size(text), opened)
    comment.add(f"## {TITLE}")
    for found in breaks(history):
        comment.add(f"- {markdown(plain(found.gate))} {markdown(break_text(found))}.")
    comment.fold("Results of the same study", [table(heads, rows, "rlll" + "r" * len(series)), _omitted(history)])
    return comment.text().rstrip()


def _text(one: Cell | None) -> str:
    if one is None:
        return DASH
    mark = f" {sign(one)}" if sign(one) else ""
    return f"{one.value}{mark}" + (f" ({one.interval})" if one.interval != DASH else "")


def picture(history: Sequence[Stretch]) -> Picture | None:
    """The trends as a figure; None where there are no two results, or no metric has two values."""
    with known_metrics(history):
        return _picture(history)


def _picture(history: Sequence[Stretch]) -> Picture | None:
    shown = history[-SHOWN:]
    models = main_models(history)
    series = series_of(shown, models, default_metrics(history))
    rows = [
        (one.metric, one.unit, one.model, place, point.value, point.ci_low, point.ci_high)
        for one in series
        for place, point in one.points.items()
    ]
    schema: dict[str, Any] = {**dict.fromkeys(("metric", "unit", "model"), pl.String), "place": pl.Int64}
    schema |= dict.fromkeys(("value", "ci_low", "ci_high"), pl.Float64)
    labels = {stretch.number: f"{stretch.number}\n{stretch.dates[0].astimezone(UTC):%m-%d}" for stretch in shown}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    if not rows or len(history) < 2:
        return None
    from indexscope.analysis.plots.trends import metric_trends
    from indexscope.analysis.report import pictures

    figure = metric_trends(frame, labels, models, _marks(history))
    if figure is None:
        return None
    caption = (
        "One point a result: the number of its run, and the month and day of the first that had it (UTC); evenly "
        "spaced, whatever time lay between. Bands are each result's own confidence interval."
    )
    caption += "".join(f" In run {stretch.number}, {plain(name)} leaks." for stretch in shown for name in stretch.leaks)
    return pictures.picture("study-over-time", "Metrics over time", caption, figure)


def _marks(history: Sequence[Stretch]) -> dict[str, Marks]:
    from indexscope.analysis.plots.trends import Marks

    found: dict[str, Marks] = {}
    for gate in history[-1].gates.values():
        if (about := _about(gate["rule"])) is not None:
            metric, bound = about
            old = found.get(metric, Marks())
            found[metric] = Marks((*old.bounds, bound), old.broke, old.mended)
    for one in breaks(history):
        if (about := _about(one.rule)) is not None:
            old = found.get(about[0], Marks())
            broke = (*old.broke, one.broke.number)
            mended = (*old.mended, one.mended.number) if one.mended is not None else old.mended
            found[about[0]] = Marks(old.bounds, broke, mended)
    return found


def _about(text: str) -> tuple[str, float] | None:
    """The column that a rule is about, and its bound; None for a ratio, a layer, or a rule of another version."""
    try:
        rule = parse_rule(text, bare="value")
    except IndexscopeError:
        return None
    if rule.quantity == "ratio" or rule.place != "all":
        return None
    return rule.metric + (DIFFERENCE if rule.quantity == "difference" else ""), rule.threshold
