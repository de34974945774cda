"""Which kinds of tokens are preferred, which avoided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import Row, of_each, side, spoken, with_interval

_ALSO = 3
"""Kinds that are named on each side after the first."""


def say(report: ReportInput) -> Sequence[str]:
    """The kinds that are surely preferred or avoided by all models that are named, those farthest from chance."""
    frames = report.frames("token_content", "lift")
    lifts = {
        name: {
            row["token_class"]: row
            for row in frames[name].filter(pl.col("layer").is_null() & pl.col("lift").is_finite()).iter_rows(named=True)
        }
        for name in spoken(report)
        if name in frames
    }
    lifts = {name: rows for name, rows in lifts.items() if rows}
    if not lifts:
        return ()
    alone, parts = len(report.measured) == 1, []
    for verb, kinds in (("preferred, by a factor of", _sure(lifts, 1)), ("avoided, by a factor of", _sure(lifts, -1))):
        if kinds:
            first, *others = kinds
            factor = of_each({name: with_interval(rows[first], "lift") for name, rows in lifts.items()}, alone)
            also = f" (also {join(others[:_ALSO])})" if others else ""
            parts.append(f"{first} tokens are {verb} {factor}{also}")
    if not parts:
        return ["No kind of token is certainly preferred or avoided."]
    text = "; ".join(parts)
    return [f"{text[0].upper()}{text[1:]}, against a random choice of as many keys."]


def _sure(lifts: Mapping[str, Mapping[str, Row]], wanted: int) -> list[str]:
    first, *others = lifts.values()
    kinds = [kind for kind in first if all(kind in rows and side(rows[kind], 1) == wanted for rows in (first, *others))]
    return sorted(kinds, key=lambda kind: -wanted * first[kind]["lift"])


ANSWER = Answer("selects", 30, say)
