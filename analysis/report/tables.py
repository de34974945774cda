"""The tables of a report as rows of finished text, shared by the HTML and the Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.names import plain
from indexscope.analysis.report.catalogue import LAYER_METRICS, grouped, paired, wanted
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.judgement import Judgement, judge
from indexscope.analysis.report.numbers import DASH, count, digits, known, number
from indexscope.analysis.report.ranking import ranking


@dataclass(frozen=True)
class Compared:
    """One metric of one candidate beside the baseline, as text."""

    metric: str
    wanted: str
    unit: str
    baseline: str
    value: str
    difference: str
    interval: str
    n: str
    judgement: Judgement
    effect: str
    p: str
    mde: str


@dataclass(frozen=True)
class Measured:
    """One metric of one model, as text."""

    metric: str
    wanted: str
    unit: str
    value: str
    interval: str
    n: str


@dataclass(frozen=True)
class MeasuredRow:
    """One metric of all models, as text; None where a model lacks it."""

    metric: str
    wanted: str
    unit: str
    cells: tuple[Measured | None, ...]


@dataclass(frozen=True)
class Section:
    """A heading inside a table and the rows under it."""

    title: str
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Cell:
    """A cell of a layer table: text, a sort key, and how it compares with the baseline if that is known."""

    text: str
    sort: str
    judgement: Judgement | None = None


@dataclass(frozen=True)
class LayerTable:
    """Metrics down the layers of one model."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]


def compared(row: Mapping[str, Any]) -> Compared:
    """Format one comparison row; decimals follow from the interval of the difference."""
    unit = str(row["unit"] or "")
    style = digits(unit, (row["value"], row["baseline"], row["difference"]), (row["ci_low"], row["ci_high"]))
    judgement = judge(row)
    shown = style.span(row["ci_low"], row["ci_high"], signed=True)
    return Compared(
        metric=row["metric"],
        wanted=wanted(row["metric"]),
        unit=unit,
        baseline=style.number(row["baseline"]),
        value=style.number(row["value"]),
        difference=style.number(row["difference"], signed=True),
        interval=DASH if judgement.kind == "same" else shown,  # what is left is rounding, which is no interval
        n=count(row["n"]),
        judgement=judgement,
        effect=number(row["effect"], places=2, signed=True),
        p=_probability(row["p_adjusted"]),
        mde=style.number(row["mde"]),
    )


def _probability(value: object) -> str:
    amount = known(value)
    return DASH if amount is None else "< 0.001" if amount < 0.001 else f"{amount:.3f}"


def comparison_sections(report: ReportInput, candidate: str) -> tuple[Section, ...]:
    """All comparison rows over all layers of one candidate, in groups."""
    rows = {
        row["metric"]: row
        for row in report.own_comparisons(candidate).filter(pl.col("layer").is_null()).iter_rows(named=True)
    }
    return tuple(
        Section(group.title, tuple(compared(rows[metric]) for metric in group.metrics)) for group in grouped(rows)
    )


def key_rows(report: ReportInput) -> tuple[tuple[Compared, tuple[Compared | None, ...]], ...]:
    """The headline metrics: the row for the baseline column, then one entry per candidate, None where it lacks one."""
    per_candidate = []
    for page in report.candidates:
        overall = report.own_comparisons(page.name).filter(pl.col("layer").is_null())
        per_candidate.append({row["metric"]: compared(row) for row in overall.iter_rows(named=True)})
    found = []
    for metric in HEADLINE:
        entries = tuple(rows.get(metric) for rows in per_candidate)
        first = next((entry for entry in entries if entry is not None), None)
        if first is not None:
            found.append((first, entries))
    return tuple(found)


def length_rows(report: ReportInput, candidate: str) -> tuple[tuple[int, str, Compared], ...]:
    """Headline metrics by context length: length (tokens), which queries ("up to" it or "at" it), and the row."""
    rows = report.lengths.filter(pl.col("candidate") == candidate)
    return tuple((int(row["length"]), str(row["kind"]), compared(row)) for row in rows.iter_rows(named=True))


def ranking_rows(report: ReportInput) -> tuple[tuple[str, ...], ...]:
    """The ranking as text: rank, candidate, quality, loss, recall, cost, efficiency score, Pareto fronts."""
    table = []
    for row in ranking(report).iter_rows(named=True):
        fronts = [words for words, key in (("loss", "nll"), ("recall", "recall")) if row[f"{key}_front"]]
        cells = [_ranked(row, "nll", "nats"), _ranked(row, "recall", "share")]
        cost = DASH if row["cost"] is None else f"{number(row['cost'], places=3)} ×"
        score = number(row["efficiency_score"])
        table.append(
            (str(row["rank"]), plain(row["candidate"]), row["quality"], *cells, cost, score, ", ".join(fronts) or DASH)
        )
    return tuple(table)


RANKING_HEADS = (
    *("rank", "candidate", "quality", "loss, nats", "recall, share", "cost"),
    *("efficiency score", "Pareto front"),
)


def _ranked(row: Mapping[str, Any], name: str, unit: str) -> str:
    low, high = (known(row[f"{name}_{end}"]) for end in ("low", "high"))
    style = digits(unit, (row[f"{name}_difference"],), (low, high))
    difference = style.number(row[f"{name}_difference"], signed=True)
    bounds = style.span(low, high, signed=True)
    return difference if bounds == DASH else f"{difference} ({bounds})"


def dropped(report: ReportInput, candidate: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Metrics over all layers that only the baseline has, and those that only the candidate has."""
    baseline = report.baseline
    ours = _names(report, baseline.name) if baseline else set()
    theirs = _names(report, candidate)
    return tuple(sorted(ours - theirs)), tuple(sorted(theirs - ours))


def _names(report: ReportInput, model: str) -> set[str]:
    rows = report.own_metrics(model).filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    return {metric for metric in rows["metric"] if not paired(metric)}


def measured_sections(report: ReportInput, model: str) -> tuple[Section, ...]:
    """All metrics over all layers of one model, in groups."""
    rows = _overall(report, model)
    return tuple(Section(group.title, tuple(rows[metric] for metric in group.metrics)) for group in grouped(rows))


def measured_table(report: ReportInput, models: Sequence[str]) -> tuple[Section, ...]:
    """All metrics over all layers of these models, in groups; rows are `MeasuredRow`."""
    each = [_overall(report, model) for model in models]
    found = {metric: row for rows in reversed(each) for metric, row in rows.items()}
    return tuple(
        Section(
            group.title,
            tuple(
                MeasuredRow(metric, found[metric].wanted, found[metric].unit, tuple(rows.get(metric) for rows in each))
                for metric in group.metrics
            ),
        )
        for group in grouped(found)
    )


def _overall(report: ReportInput, model: str) -> dict[str, Measured]:
    rows = report.own_metrics(model).filter(pl.col("layer").is_null())
    return {row["metric"]: _measured(row) for row in rows.iter_rows(named=True)}


def _measured(row: Mapping[str, Any]) -> Measured:
    unit = str(row["unit"] or "")
    style = digits(unit, (row["value"],), (row["ci_low"], row["ci_high"]))
    return Measured(
        metric=row["metric"],
        wanted=wanted(row["metric"]),
        unit=unit,
        value=style.number(row["value"]),
        interval=style.span(row["ci_low"], row["ci_high"]),
        n=count(row["n"]),
    )


def layer_table(report: ReportInput, page: ModelPage, columns: Sequence[str] = LAYER_METRICS) -> LayerTable | None:
    """Metrics by layer of one model, each cell marked where it detectably differs from the baseline's layer."""
    rows = report.own_metrics(page.name).filter(
        pl.col("layer").is_not_null() & pl.col("metric").is_in(list(columns)) & pl.col("value").is_finite()
    )
    if rows.is_empty():
        return None
    differences = {
        (row["metric"], row["layer"]): judge(row)
        for row in report.own_comparisons(page.name).filter(pl.col("layer").is_not_null()).iter_rows(named=True)
    }
    present = set(rows["metric"].to_list())
    shown = tuple(metric for metric in columns if metric in present)
    units = dict(rows.select("metric", "unit").iter_rows())
    cells = {(row["metric"], row["layer"]): row for row in rows.iter_rows(named=True)}
    places = {metric: column_places(rows.filter(pl.col("metric") == metric)["value"].to_list()) for metric in shown}
    table = []
    for layer in sorted(rows["layer"].unique().to_list()):
        line = tuple(
            _cell(cells.get((metric, layer)), places[metric], differences.get((metric, layer))) for metric in shown
        )
        table.append((int(layer), line))
    return LayerTable(shown, tuple(str(units[metric] or "") for metric in shown), tuple(table))


def column_places(column: Sequence[float]) -> int | None:
    """Decimals for a whole column: three, fewer where its largest value has more than one digit before the point."""
    largest = max((abs(value) for value in column), default=0.0)
    if not 1e-2 < largest < 1e6:
        return None
    return min(max(3 - math.floor(math.log10(largest)), 0), 3)


def _cell(row: Mapping[str, Any] | None, places: int | None, judgement: Judgement | None) -> Cell:
    if row is None:
        return Cell(DASH, "")
    value = known(row["value"])
    told = judgement if judgement is not None and judgement.stands else None
    return Cell(number(value, str(row["unit"] or ""), places), "" if value is None else repr(value), told)
