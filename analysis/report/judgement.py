"""What one difference means, in a word and an arrow, and never more than its interval allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from indexscope.analysis.comparison.budgets import OTHER_K
from indexscope.analysis.comparison.verdicts import FEWEST, fewer
from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.report.numbers import known

Kind = Literal[
    "better", "worse", "different", "equivalent", "inconclusive", "uncertain", "same", "missing", "other k", "leaks"
]

_WORDS: Mapping[Kind, str] = {
    "better": "better",
    "worse": "worse",
    "different": "",  # the direction says it all: the metric has no better or worse
    "equivalent": "equivalent",
    "inconclusive": "inconclusive",
    "uncertain": "no interval",
    "same": "equal",
    "missing": "not comparable",
    "other k": "not judged, k differs",
    "leaks": f"{LEAKS}, not judged",
}
#: Kinds that a correction for many metrics may take back.
DETECTED = ("better", "worse", "different")


@dataclass(frozen=True)
class Judgement:
    """How a difference is read.

    Attributes:
        kind: The class of the judgement.
        arrow: Direction of the value ("↑", "↓") where one is established, else "".
        direction: "higher", "lower" or "".
        note: What limits the judgement, or adds to it; "" for nothing.
    """

    kind: Kind
    arrow: str = ""
    direction: str = ""
    note: str = ""

    @property
    def word(self) -> str:
        """The judgement in words, direction first."""
        words = ", ".join(part for part in (self.direction, _WORDS[self.kind]) if part)
        return f"{words} ({self.note})" if self.note else words

    @property
    def stands(self) -> bool:
        """Whether a difference was detected and remains so among all the metrics that were looked at."""
        return self.kind in DETECTED and not self.note


def judge(row: Mapping[str, Any]) -> Judgement:
    """Judge a comparison row (difference, ci_low, ci_high, better; verdict, no_worse and corrected where it has them).

    With an interval, a difference counts only if the interval leaves out zero, and is equivalent if it is sure to lie
    within the margin (see ``indexscope.analysis.comparison.verdicts``). Without one, a quantity that was counted rather
    stays uncertain. Numbers that leak are not judged.
    """
    if row.get("verdict") == LEAKS or row.get(LEAKS):
        return Judgement(LEAKS)
    if row.get("verdict") == OTHER_K:
        return Judgement(OTHER_K)
    difference, low, high = (known(row.get(key)) for key in ("difference", "ci_low", "ci_high"))
    better, equivalent = row.get("better"), row.get("verdict") == "equivalent"
    if difference is None:
        return Judgement("missing")
    if row.get("verdict") == "equal" or low == high == difference == 0:
        return Judgement("same")
    if low is not None and high is not None:
        if low <= 0 <= high or row.get("verdict") == "inconclusive":
            kept = "no worse than the margin" if row.get("no_worse") else ""
            few = "too few samples" if fewer(known(row.get("n_effective")) or FEWEST, FEWEST) else kept
            return Judgement("equivalent") if equivalent else Judgement("inconclusive", note=few)
    elif difference == 0:
        return Judgement("same")
    arrow, direction = ("↑", "higher") if difference > 0 else ("↓", "lower")
    if equivalent:
        return Judgement("equivalent", arrow, direction)
    note = "not after correction" if row.get("corrected") is False else ""
    if better is not None:
        return Judgement("better" if better else "worse", arrow, direction, note)
    return Judgement("different" if low is not None else "uncertain", arrow, direction, note)
