"""How many keys would keep nearly all of the attention."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.analysis.key_budget.panel import TARGET, budget_row
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import number, percent
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import of_each, spoken, with_interval


def say(report: ReportInput) -> Sequence[str]:
    """Keys in the indexer's order with one k for all queries, beside those of now; of dense models the least."""
    frames = {name: frame for name, frame in report.frames("key_budget", "budgets").items() if name in spoken(report)}
    alone = len(report.measured) == 1
    needed: dict[str, str] = {}
    now: dict[str, str] = {}
    for name, frame in frames.items():
        fixed, own = budget_row(frame, None, "fixed", TARGET), budget_row(frame, None, "model", None)
        if fixed is not None and own is not None:
            needed[name] = with_interval(fixed, "keys")
            now[name] = number(own["keys"], places=0)
    if needed:
        return [
            f"Keeping {percent(TARGET)} of the attention with one k for all queries takes "
            f"{of_each(needed, alone, ' keys a query on average')}, against {join(list(dict.fromkeys(now.values())))} "
            "now."
        ]
    best = {
        name: with_interval(row, "keys")
        for name, frame in frames.items()
        if (row := budget_row(frame, None, "adaptive oracle", TARGET)) is not None
    }
    if not best:
        return []
    keys = of_each(best, alone, " keys a query on average")
    return [
        f"{percent(TARGET)} of the attention falls on the {keys} that get most: no selection could keep as much with "
        "fewer."
    ]


ANSWER = Answer("misses", 20, say)
