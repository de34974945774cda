"""Whether near keys are selected more often than a random choice of as many would."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.spoken import by, of_each, overall, side, with_interval

_MORE = {1: "more often", -1: "less often", 0: "neither certainly more nor certainly less often"}
_ATTENTION = {1: "more", -1: "less", 0: "neither certainly more nor certainly less"}


def say(report: ReportInput) -> Sequence[str]:
    """The lift of the 32 nearest keys, and of the oldest tenth where it is preferred too."""
    near, old = overall(report, "recency_lift"), overall(report, "oldest_lift")
    leads = {kind: f"are selected {more} than by a random choice of as many" for kind, more in _MORE.items()}
    if not near:
        near, old = overall(report, "attention_recency_lift"), overall(report, "attention_oldest_lift")
        leads = {kind: f"get {more} attention than an even spread would give" for kind, more in _ATTENTION.items()}
    told, alone = [], len(report.measured) == 1
    for kind, models in by({name: side(row, 1) for name, row in near.items()}).items():
        text = f"Near keys {leads[kind]}: the 32 nearest by a factor of "
        text += of_each({name: with_interval(near[name]) for name in models}, alone)
        first = {name: with_interval(old[name]) for name in models if name in old and side(old[name], 1) == 1}
        told.append(text + (f"; the oldest tenth by {of_each(first, alone)}" if first else "") + ".")
    return told


ANSWER = Answer("selects", 10, say)
