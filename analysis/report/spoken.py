"""What the answers say numbers with: a value and its interval with as many digits, and whose it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.plots.drawing import INTERVAL
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import DASH, digits, known, percent
from indexscope.analysis.report.overlaid import overlaid
from indexscope.analysis.report.ranking import ranking
from indexscope.analysis.report.sentences import join

#: Candidates that a sentence names one by one; of more it names the one that is ranked first.
NAMED = 2
Row = Mapping[str, Any]


def spoken(report: ReportInput) -> list[str]:
    """The models that answers name: the baseline and the first candidate, however many there are."""
    return overlaid(report, 2)


def leading(report: ReportInput) -> list[ModelPage]:
    """The candidates that answers name: all where they are few, else the one that is ranked first."""
    pages = report.candidates
    if len(pages) <= NAMED:
        return pages
    first = ranking(report)["candidate"][0]
    return [page for page in pages if page.name == first]


def called(report: ReportInput, page: ModelPage) -> str:
    """What an answer calls a candidate: with its rank where it stands for many."""
    many = len(report.candidates)
    return f"{plain(page.name)} (ranked first of {many} candidates)" if many > NAMED else plain(page.name)


def overall(report: ReportInput, metric: str) -> dict[str, Row]:
    """A metric over all layers of the models that answers name, where it was measured."""
    rows = report.metrics.filter((pl.col("metric") == metric) & pl.col("layer").is_null() & pl.col("value").is_finite())
    found = {row["model"]: row for row in rows.iter_rows(named=True)}
    return {name: found[name] for name in spoken(report) if name in found}


def with_interval(row: Row, name: str = "value", unit: str = "", ends: tuple[str, str] = INTERVAL) -> str:
    """A value, its unit and its interval in brackets, which is left out where it is not known.

    >>> with_interval({"value": 2.5, "ci_low": 2.4, "ci_high": 2.6}, unit=" times")
    '2.50 times (2.40 to 2.60)'
    """
    value, interval = row[name], tuple(row[key] for key in ends)
    own = digits("", (value,), interval)
    around = own.span(*interval)
    return f"{own.number(value)}{unit}" + ("" if around == DASH else f" ({around})")


def share(row: Row, name: str = "value", ends: tuple[str, str] = INTERVAL) -> str:
    r"""A share in per cent with its interval.

    >>> share({"value": 0.25, "ci_low": 0.24, "ci_high": 0.26})
    '25.0\u202f% (24.0 to 26.0)'
    """
    if known(row[ends[0]]) is None:
        return percent(row[name])
    scaled = {key: None if known(row[key]) is None else 100 * row[key] for key in (name, *ends)}
    return with_interval(scaled, name, "\u202f%", ends)


def of_each(texts: Mapping[str, str], alone: bool, what: str = "") -> str:
    """Texts with the names of their models; without where there is but one model.

    Args:
        texts: Text by name of the model.
        alone: Whether the study has no other model.
        what: What follows the first of the texts.

    >>> of_each({"a": "5", "b": "7"}, False, " keys")
    '5 keys in a and 7 in b'
    """
    given = [f"{text}{'' if number else what}" for number, text in enumerate(texts.values())]
    return given[0] if alone else join([f"{text} in {plain(name)}" for text, name in zip(given, texts, strict=True)])


def side(row: Row, middle: float, ends: tuple[str, str] = INTERVAL) -> int:
    """1 where the interval lies above a value, -1 below, 0 where it cannot be told."""
    low, high = (known(row[key]) for key in ends)
    if low is None or high is None:
        return 0
    return 1 if low > middle else -1 if high < middle else 0


def by(keys: Mapping[str, Any]) -> dict[Any, list[str]]:
    """Names by what is equal of them, in order.

    >>> by({"a": 1, "b": 0, "c": 1})
    {1: ['a', 'c'], 0: ['b']}
    """
    found: dict[Any, list[str]] = {}
    for name, key in keys.items():
        found.setdefault(key, []).append(name)
    return found


def names(models: Sequence[str]) -> str:
    """Models in running text."""
    return join([plain(name) for name in models])
