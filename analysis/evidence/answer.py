"""Whether evidence is held where texts are longest, and whether lost answers lack it."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import count, known, percent
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import of_each, share, spoken

#: What is told of a model, the first that is known, and how.
_HELD = (
    ("evidence_attention_kept", "the selection keeps", " of the attention on the evidence that answers need"),
    ("evidence_selected", "the answers' queries select", " of the evidence that they need"),
)


def say(report: ReportInput) -> Sequence[str]:
    """Evidence held at the longest length, and what became of answers that dense attention gives."""
    cells, outcomes = (report.frames("evidence", name) for name in ("evidence_cells", "answer_outcomes"))
    alone, told, done = len(report.measured) == 1, [], set[str]()
    for metric, begin, of in _HELD:
        texts, longest = {}, 0
        for name in spoken(report):
            if name in done or name not in cells:
                continue
            own = cells[name].filter(
                (pl.col("metric") == metric) & pl.all_horizontal(pl.col("kind", "depth").is_null())
            )
            rows = own.filter(pl.col("length").is_not_null() & pl.col("value").is_not_null()).sort("length")
            if rows.height:
                row = rows.row(-1, named=True)
                texts[name], longest = share(row), row["length"]
        if texts:
            told.append(f"At {count(longest)} tokens {begin} {of_each(texts, alone, of)}.")
        done |= set(texts)
    lost = []
    for name in spoken(report):
        rows_of = {row["outcome"]: row for row in outcomes[name].iter_rows(named=True)} if name in outcomes else {}
        if not rows_of or not rows_of["lost"]["n"]:
            continue
        row, of = rows_of["lost"], rows_of["lost"]["n"] + rows_of["both right"]["n"]
        missing = (
            "" if known(row["missing"]) is None else f" ({percent(row['missing'])} of them without their evidence)"
        )
        model = "" if alone else f" in {plain(name)}"
        lost.append(f"{count(row['n'])} of {count(of)}{model}{missing}")
    if lost:
        told.append(f"Of the answers that are exact with every key, the selection loses {join(lost)}.")
    return told


ANSWER = Answer("misses", 5, say)
