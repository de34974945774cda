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
        where = f" in {names(models)}" if len(models) < len(rows) else ""
        less = f" less at {count(longest)} than at {count(first)}"
        unnamed = alone or len(models) == 1
        lost = of_each({name: with_interval(rows[name], "loss") for name in models}, unnamed, less)
        told.append(
            f"No lasting loss of the selection's skill with length is detected{where}: {lost}."
            if length is None
            else f"From {count(length)} tokens on the selection has detectably less skill{where}: {lost}."
        )
    return told


ANSWER = Answer("misses", 15, say)
