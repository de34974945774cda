"""Which kinds of tokens are preferred, which avoided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import Row, of_each, side, spoken, with_interval


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
    alone = len(report.measured) == 1
    parts: list[str] = []
    for verb, wanted in (("preferred", 1), ("avoided", -1)):
        for kind in _sure(lifts, wanted)[:1]:
            factors = {name: with_interval(rows[kind], "lift") for name, rows in lifts.items()}
            by = of_each(factors, alone) if not parts else join(list(factors.values()))
            parts.append(f"{kind} tokens are {verb}, by a factor of {by}")
    if not parts:
        return ["No kind of token is certainly preferred or avoided."]
    text = "; ".join(parts)
    return [f"{text[0].upper()}{text[1:]}."]


def _sure(lifts: Mapping[str, Mapping[str, Row]], wanted: int) -> list[str]:
    first, *others = lifts.values()
    kinds = [kind for kind in first if all(kind in rows and side(rows[kind], 1) == wanted for rows in (first, *others))]
    return sorted(kinds, key=lambda kind: -wanted * first[kind]["lift"])


ANSWER = Answer("selects", 30, say)
