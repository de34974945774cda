"""From which context length on the selection is worse, if at all."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.context_length.resampled import SKILL
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.spoken import Row, by, names, of_each, spoken, with_interval


def say(report: ReportInput) -> Sequence[str]:
    """The length from which on skill is detectably lower; or that none was detected, with what is not ruled out."""
    frames = report.frames("context_length", "onset")
    rows: dict[str, Row] = {}
    for name in spoken(report):
        own = frames[name].filter((pl.col("metric") == SKILL) & pl.col("layer").is_null()) if name in frames else None
        if own is not None and own.height:
            rows[name] = own.row(0, named=True)
    told, alone = [], len(report.measured) == 1
    for (first, length, longest), models in by(
        {name: (row["first_length"], row["length"], row["longest"]) for name, row in rows.items()}
    ).items():
        if first == longest:
            continue
        whose = "" if len(models) == len(rows) else f" of {names(models)}"
        less = f" less at {count(longest)} than at {count(first)}"
        lost = of_each({name: with_interval(rows[name], "loss") for name in models}, alone, less)
        told.append(
            f"No lasting loss of the selection's skill{whose} with length is detected: {lost}."
            if length is None
            else f"From {count(length)} tokens on the selection{whose} has detectably less skill: {lost}."
        )
    return told


ANSWER = Answer("misses", 30, say)
