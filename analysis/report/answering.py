"""What the answers of the chapters share: whom they name, and numbers with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import decimals, known, number, percent, span
from indexscope.analysis.report.ranking import ranking

#: Candidates that a sentence names one by one; of more it names the one that is ranked first.
NAMED = 2

Row = Mapping[str, Any]


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


def with_interval(row: Row, name: str = "value", low: str = "ci_low", high: str = "ci_high") -> str:
    """A number with its interval in brackets, both with the digits that the interval is worth.

    >>> with_interval({"value": 0.01234, "ci_low": 0.0082, "ci_high": 0.0164})
    '0.0123 (CI 0.0082 to 0.0164)'
    """
    ends = known(row[low]), known(row[high])
    places = decimals(ends, known(row[name]))
    interval = "" if None in ends else f" (CI {span(*ends, places=places)})"
    return f"{number(row[name], places=places)}{interval}"


def share_with_interval(row: Row, name: str = "value", low: str = "ci_low", high: str = "ci_high") -> str:
    """The same of a share, in per cent.

    >>> share_with_interval({"value": 0.25, "ci_low": 0.195, "ci_high": 0.305})
    '25.0\u202f% (CI 19.5 to 30.5\u202f%)'
    """
    value, start, end = (None if (found := known(row[key])) is None else 100 * found for key in (name, low, high))
    places = decimals((start, end), value)
    if value is None or places is None:
        return percent(row[name]) if value is not None else number(None)
    return f"{number(value, places=places)}\u202f% (CI {span(start, end, places=places)}\u202f%)"
