"""What the report shows of a series: its numbers by step, and the steps at which they change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.charting import chart_rows
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, digits
from indexscope.analysis.report.panel import Chart, Drawn, Frames, Panel, TextTable
from indexscope.analysis.report.sentences import few
from indexscope.analysis.series.figures import series_layers, series_metrics, series_patterns, step_text
from indexscope.analysis.series.tables import CHANGES, COURSES, PATTERNS, POINTS, ROLES, SETTLED
from indexscope.analysis.statistics.resampling import FEWEST_FOR_PERCENTILES
from indexscope.analysis.statistics.segmentation import FEWEST
from indexscope.columns import names

#: Metrics of the folded chart.
_CHARTED = 3


def said(frames: Frames) -> list[str]:
    """How long the series is, what broke, what settled, and what did not change."""
    course = frames["series"].row(0, named=True)
    steps = f"{course['axis']} {step_text(course['first'])} to {step_text(course['newest'])}"
    found = [f"{plain(course['series'])}: {course['members']} members, {steps}."]
    if not judged(frames):
        least = f"{FEWEST} members and {FEWEST_FOR_PERCENTILES} samples"
        return [f"{found[0]} Changes are looked for from {least} on."]
    settled = frames.get("series_settled", SETTLED.empty()).filter(pl.col("layer").is_null())
    changes = overall_changes(frames)
    worse = changes.filter(~pl.col("better"))
    found += [_broke(row, course["axis"]) for row in worse.iter_rows(named=True)]
    if worse.is_empty():
        found.append("No headline metric changed for the worse.")
    for row in settled.filter(pl.col("settled").is_not_null() & pl.col("metric").is_in(HEADLINE)).iter_rows(named=True):
        last = changes.filter((pl.col("metric") == row["metric"]) & (pl.col("step") == row["settled"]))
        where = "" if last.is_empty() else f" ({_between(last.row(0, named=True))})"
        level = digits(row["unit"], (row["level"],)).number(row["level"])
        found.append(
            f"{_capital(row['metric'])} settled at {course['axis']} {step_text(row['settled'])}{where}, at {level}"
            f"{_unit(row['unit'])}."
        )
    open_ = settled.filter((pl.col("changes") > 0) & pl.col("settled").is_null() & pl.col("metric").is_in(HEADLINE))
    if open_.height:
        found.append(f"Still changing at the end: {few([label(name) for name in open_['metric']])}.")
    still = settled.filter((pl.col("changes") == 0) & pl.col("metric").is_in(HEADLINE))
    if still.height:
        found.append(f"No change was found in {few([label(name) for name in still['metric']])}.")
    return found


def judged(frames: Frames) -> list[str]:
    """The headline metrics of which there were members and samples enough to look for changes over all layers."""
    settled = frames.get("series_settled", SETTLED.empty())
    looked = pl.col("metric").is_in(HEADLINE) & pl.col("layer").is_null() & pl.col("changes").is_not_null()
    return settled.filter(looked)["metric"].to_list()


def overall_changes(frames: Frames) -> pl.DataFrame:
    """The changes of headline metrics over all layers."""
    changes = frames.get("series_changes", CHANGES.empty())
    return changes.filter(pl.col("layer").is_null() & pl.col("metric").is_in(HEADLINE))


def _broke(row: Mapping[str, Any], axis: str) -> str:
    shown = digits(row["unit"], (row["level_before"], row["level"]))
    verb = "rose" if row["difference"] > 0 else "fell"
    return (
        f"{_capital(row['metric'])} {verb} at {axis} {step_text(row['step'])} ({_between(row)}), from "
        f"{shown.number(row['level_before'])} to {shown.number(row['level'])}{_unit(row['unit'])}: worse."
    )


def _between(row: Mapping[str, Any]) -> str:
    return f"CI after {step_text(row['ci_low'])} up to {step_text(row['ci_high'])}"


def _capital(metric: str) -> str:
    words = label(metric)
    return words[:1].upper() + words[1:]


def _unit(unit: str) -> str:
    return "" if unit in ("share", "score", "ratio", "") else f" {unit}"


def tables(frames: Frames) -> list[TextTable]:
    """Changes over all layers, then where in the layers there are some, and heads whose focus changed."""
    if "series" not in frames:
        return []
    axis = frames["series"]["axis"][0]
    changes = frames.get("series_changes", CHANGES.empty())
    found = []
    overall = changes.filter(pl.col("layer").is_null())
    if overall.height:
        heads = ("metric", axis, "CI", "from", "to", "unit", "for the")
        lines = tuple(_line(row) for row in overall.iter_rows(named=True))
        found.append(TextTable("Steps at which the level of a metric changes, over all layers", heads, lines))
    if layers := _by_layer(changes.filter(pl.col("layer").is_not_null())):
        columns = ("metric", "layers that change", "first change", "last change")
        found.append(TextTable("The same in single layers", columns, layers, open=False))
    if roles := _moved(frames.get("series_roles", ROLES.empty())):
        columns = ("layer, head", "focus now", f"since {axis}", "before")
        found.append(TextTable("Indexer heads whose focus changed", columns, roles, open=False))
    return found


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    shown = digits(row["unit"], (row["level_before"], row["level"]))
    kind = {True: "better", False: "worse", None: DASH}[row["better"]]
    return (
        label(row["metric"]),
        step_text(row["step"]),
        f"after {step_text(row['ci_low'])} up to {step_text(row['ci_high'])}",
        shown.number(row["level_before"]),
        shown.number(row["level"]),
        str(row["unit"]),
        kind,
    )


def _by_layer(changes: pl.DataFrame) -> tuple[tuple[str, ...], ...]:
    found = []
    for (metric,), own in changes.group_by("metric", maintain_order=True):
        first, last = own.sort("step", "layer").row(0, named=True), own.sort("step", "layer").row(-1, named=True)
        ends = (f"{step_text(row['step'])} (layer {row['layer']})" for row in (first, last))
        found.append((label(str(metric)), few([str(one) for one in own["layer"].unique().sort()]), *ends))
    return tuple(found)


def _moved(roles: pl.DataFrame) -> tuple[tuple[str, ...], ...]:
    """Heads whose focus at the newest step is not what it was at first, since when, and what it was before."""
    found = []
    for (layer, head), own in roles.group_by("layer", "indexer_head", maintain_order=True):
        said_of, steps = own.sort("step")["words"].to_list(), own.sort("step")["step"].to_list()
        last = next((place for place in range(len(said_of) - 1, 0, -1) if said_of[place - 1] != said_of[-1]), 0)
        if last:
            found.append((f"{layer}, {head}", said_of[-1], step_text(steps[last]), said_of[last - 1]))
    return tuple(found)


def charts(frames: Frames) -> list[Chart]:
    """The first metrics and the pattern types by step, in the layer that is chosen."""
    points = frames.get("series_layers", POINTS.empty())
    held = points["metric"].unique(maintain_order=True).to_list()
    axis = frames["series"]["axis"][0] if "series" in frames else "step"
    found = []
    for metric in [name for name in HEADLINE if name in held][:_CHARTED]:
        own = points.filter(pl.col("metric") == metric).sort("layer", "step")
        found.append(
            Chart(
                f"{_capital(metric)} by {axis}",
                "Of the chosen layer, over the members of the series; the band is the confidence interval.",
                "line",
                chart_rows(own, "layer", "step", "value"),
                x="step",
                y="value",
                xlabel=axis,
                ylabel=str(own["unit"][0]),
            )
        )
    kinds = frames.get("series_patterns", PATTERNS.empty()).filter(pl.col("layer").is_not_null())
    if kinds.height:
        found.append(
            Chart(
                f"Pattern types by {axis}",
                "Share of the attention maps of the chosen layer, over the members of the series.",
                "line",
                chart_rows(kinds.sort("layer", "pattern_type", "step"), "layer", "pattern_type", "step", "share"),
                x="step",
                y="share",
                xlabel=axis,
                ylabel="share of the layer's maps",
                series="pattern_type",
            )
        )
    return found


def across(report: ReportInput) -> list[Drawn]:
    """Of each series its metrics, those by layer, and its patterns."""
    found: list[Drawn] = []
    for place, (newest, course) in enumerate(report.frames("series", "series").items()):
        name, axis = plain(course["series"][0]), str(course["axis"][0])

        def frame(table: str, of: str = newest) -> pl.DataFrame:
            return next(page for page in report.models if page.name == of).analyses["series"][table]

        points, end = frame("series_points"), f"-{place + 1}" if place else ""
        found += [
            Drawn(
                f"series-metrics{end}",
                f"{name}, {axis} by {axis}",
                f"Members evenly spaced, in their order. Bands: {report.interval} of a value. Dashed: the level of the "
                "metric changes there, by exact least-squares segmentation, of each metric the six largest; "
                "shaded: where resampled samples put it.",
                series_metrics(points, frame("series_changes"), axis),
                overlaid=False,
            ),
            Drawn(
                f"series-layers{end}",
                f"{name} by layer",
                "Value of a metric by layer and member, members evenly spaced.",
                series_layers(frame("series_layers"), axis),
                overlaid=False,
            ),
            Drawn(
                f"series-patterns{end}",
                f"Patterns and heads of {name}",
                "Share of attention maps of each type by rules, over all layers, and of indexer heads by what they "
                "focus on, as the page of a model has them.",
                series_patterns(frame("series_patterns"), frame("series_roles"), axis),
                overlaid=False,
            ),
        ]
    return found


PANEL = Panel(
    analysis="series",
    order=0,
    chapter="changed",
    title="Over the series",
    about="This model is the newest of a series; the others are shown here alone.",
    words=said,
    tables=tables,
    charts=charts,
    across=across,
    json={
        "series": names(COURSES.columns),
        "series_points": names(POINTS.columns),
        "series_changes": names(CHANGES.columns),
        "series_settled": names(SETTLED.columns),
    },
)
