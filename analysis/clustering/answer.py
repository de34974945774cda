"""Which patterns most attention heads have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from indexscope.analysis.clustering.pattern_types import MIXED
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import known
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import Row, names, share, spoken

_TOLD = 2
"""Types that are named of each model."""


def say(report: ReportInput) -> Sequence[str]:
    """The most frequent types with their shares; of the second model only what differs."""
    frames = report.frames("clustering", "pattern_types")
    first: list[str] = []
    told: list[str] = []
    sure = True
    for name in spoken(report):
        rows = _types(frames[name]) if name in frames else []
        kinds = [row["pattern_type"] for row in rows[:_TOLD]]
        if not kinds:
            continue
        where = "" if len(report.measured) == 1 else f" in {names([name])}"
        if kinds == first:
            told.append(f"the same{where}")
        else:
            text = join([f"{_called(row['pattern_type'])} with {share(row, 'share')}" for row in rows[:_TOLD]])
            told.append(f"{text}{where}")
        first = first or kinds
        sure = sure and all(_less(row, rows[len(kinds) - 1]) for row in rows[_TOLD:])
    lead = "The most frequent" if sure else "Among the most frequent"
    return [f"{lead} patterns of attention maps are {'; '.join(told)}."] if told else ()


def _called(kind: str) -> str:
    return "mixed (no rule fits)" if kind == MIXED else kind


def _types(frame: pl.DataFrame) -> list[dict[str, Any]]:
    rows = frame.filter(pl.col("layer").is_null() & (pl.col("count") > 0))
    return rows.sort("count", "pattern_type", descending=[True, False]).to_dicts()


def _less(row: Row, other: Row) -> bool:
    """Whether the intervals tell that a type is rarer than another."""
    high, low = known(row["ci_high"]), known(other["ci_low"])
    return high is not None and low is not None and high < low


ANSWER = Answer("selects", 20, say)
