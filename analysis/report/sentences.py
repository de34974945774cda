"""Sentences about one number: what moved, by how much, how sure that is, and what was left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl

from indexscope.analysis.leaks import marked
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.judgement import judge
from indexscope.analysis.report.numbers import digits, known, number, percent

Outcome = Literal["better", "worse", "equivalent", "inconclusive", "same"]
_UNSPOKEN = ("share", "ratio", "score", "")


#: Names that a sentence lists one by one.
_FEW = 4


def join(parts: Sequence[str]) -> str:
    """A list in running text."""
    if len(parts) < 2:
        return "".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def few(names: Sequence[str]) -> str:
    """Names in running text, of many the first two.

    >>> few(["a", "b", "c"]), few(["a", "b", "c", "d", "e"])
    ('a, b and c', 'a, b and 3 others')
    """
    return join(names) if len(names) <= _FEW else join([*names[:2], f"{len(names) - 2} others"])


def name_of(metric: str) -> str:
    """What a sentence that begins with a metric calls it."""
    words = label(metric)
    return words[:1].upper() + words[1:]


def with_unit(value: object, unit: str, places: int | None = None, signed: bool = False) -> str:
    """A number with its unit, where the unit is one that is spoken."""
    return _spoken(number(value, unit, places, signed), unit)


def _spoken(text: str, unit: str) -> str:
    return text if unit in _UNSPOKEN else f"{text} {unit}"


def sentence(row: Mapping[str, Any], outcome: Outcome, confidence: float) -> str:
    """One comparison row in words."""
    name, unit = name_of(row["metric"]), str(row["unit"] or "")
    difference, low, high = (known(row[key]) for key in ("difference", "ci_low", "ci_high"))
    style = digits(unit, (row["value"], row["baseline"], difference), (low, high))
    values = f"{style.number(row['value'])} against {_spoken(style.number(row['baseline']), unit)}"
    if outcome == "same":
        where = "" if low is None else f" on every one of the {row['n']} samples"
        return f"{name}: equal{where} ({with_unit(row['value'], unit)})."
    if low is None or high is None:
        return f"{name}: {values}{_relative(row)}."
    interval = f"{percent(confidence)} CI {style.span(low, high, signed=True)}, n = {row['n']}"
    amount, judgement = _spoken(style.number(difference, signed=True), unit), judge(row)
    if outcome == "equivalent":
        narrow = style.span(row["tost_low"], row["tost_high"], signed=True)
        moved = f", though detectably {judgement.direction}" if judgement.direction else ""
        return (
            f"{name}: equivalent{moved} ({amount}; the {percent(2 * confidence - 1)} CI {narrow} lies within the "
            f"margin of ±{with_unit(row['margin'], unit)}; n = {row['n']})."
        )
    if outcome == "inconclusive":
        return f"{name}: {_open(row, amount, interval)}"
    effect = known(row["effect"])
    size = "" if effect is None else f", effect size {number(effect, places=2, signed=True)}"
    return (
        f"{name} is {judgement.direction} ({outcome}) by {_spoken(style.number(abs(difference or 0)), unit)} "
        f"({values}; {interval}{size})."
    )


def _open(row: Mapping[str, Any], amount: str, interval: str) -> str:
    """What is left open, and what is not."""
    unit, least = str(row["unit"] or ""), known(row["mde"])
    told = f"inconclusive ({amount}; {interval}); "
    if judge(row).kind in ("better", "worse"):
        told += "the difference does not outlast the correction for the number of metrics"
    else:
        told += "a true difference anywhere within that interval is not ruled out"
    if row["no_worse"]:
        told += f", but one that is worse by the margin of {with_unit(row['margin'], unit)} is"
    if least is None:
        return f"{told}."
    return f"{told}. A true difference of {with_unit(least, unit)} would be detected with a probability of 80\u202f%."


def _relative(row: Mapping[str, Any]) -> str:
    baseline, value = known(row["baseline"]), known(row["value"])
    if not baseline or value is None or baseline < 0:
        return ""
    change = value / baseline - 1
    return f", {percent(abs(change))} {'less' if change < 0 else 'more'}"


def portrait(report: ReportInput, page: ModelPage) -> str:
    """One sentence about a model that is compared with nothing."""
    rows = report.own_metrics(page.name).filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    found = {row["metric"]: row for row in rows.iter_rows(named=True)}
    parts = []
    for metric in ("nll", "selection_recall", "oracle_recall", "normalized_entropy"):
        if metric in found:
            row = found[metric]
            style = digits(row["unit"], (row["value"],), (row["ci_low"], row["ci_high"]))
            interval = style.span(row["ci_low"], row["ci_high"])
            shown = f" ({percent(report.confidence)} CI {interval})" if interval != "–" else ""
            tail = "" if row["unit"] in _UNSPOKEN else f" {row['unit']}"
            parts.append(f"{label(metric)} {style.number(row['value'])}{tail}{shown}")
    kind = (
        ""
        if page.has_indexer
        else " It has no indexer, so its attention is described and nothing is said of selection."
    )
    name = marked(plain(page.name), page.name in report.leaking)
    return f"{name}: {join(parts)}.{kind}" if parts else kind.strip()
