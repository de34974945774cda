"""From which context length on the selection is worse, if at all."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.context_length.panel import known_at_lengths
from indexscope.analysis.context_length.resampled import SKILL
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import name_of
from indexscope.analysis.report.spoken import Row, by, names, of_each, share, spoken, with_interval

RECALL = "selection_recall"


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


def say_at_lengths(report: ReportInput) -> Sequence[str]:
    """What is kept at the shortest and at the longest length that the study asks for."""
    frames, texts, alone = report.frames("context_length", "at_lengths"), {}, len(report.measured) == 1
    for name in spoken(report):
        rows = known_at_lengths(frames.get(name), RECALL)
        if len(rows) > 1:
            first, last = rows[0], rows[-1]
            texts[name] = (
                f"from {share(first)} over the first {count(first['length'])} tokens to {share(last)} over "
                f"{count(last['length'])}"
            )
    return [f"{name_of(RECALL)} goes {of_each(texts, alone)}."] if texts else []


ANSWER = Answer("misses", 15, say)
#: Early, since a study that asks for lengths is about them.
AT_LENGTHS = Answer("misses", 9, say_at_lengths)
