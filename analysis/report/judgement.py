"""What one difference means, in a word and an arrow, and never more than its interval allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from analysis.report.numbers import known

Kind = Literal["better", "worse", "different", "undetected", "uncertain", "same", "missing"]

_WORDS: Mapping[Kind, str] = {
    "better": "better",
    "worse": "worse",
    "different": "",  # the direction says it all: the metric has no better or worse
    "undetected": "no detectable difference",
    "uncertain": "no interval",
    "same": "equal",
    "missing": "not comparable",
}


@dataclass(frozen=True)
class Judgement:
    """How a difference is read.

    Attributes:
        kind: The class of the judgement.
        arrow: Direction of the value ("↑", "↓") where one is established, else "".
        direction: "higher", "lower" or "".
        word: The judgement in words.
    """

    kind: Kind
    arrow: str = ""
    direction: str = ""

    @property
    def word(self) -> str:
        """The judgement in words, direction first."""
        return ", ".join(part for part in (self.direction, _WORDS[self.kind]) if part)


def judge(row: Mapping[str, Any]) -> Judgement:
    """Judge a comparison row (difference, ci_low, ci_high, better).

    With an interval, a difference counts only if the interval leaves out zero. Without one, a quantity
    that was counted rather than sampled carries its own ``better``; anything else stays uncertain.
    """
    difference, low, high = (known(row.get(key)) for key in ("difference", "ci_low", "ci_high"))
    better = row.get("better")
    if difference is None:
        return Judgement("missing")
    if low is not None and high is not None:
        if low == high == difference == 0:
            return Judgement("same")  # every sample agrees, so the bootstrap has nothing to vary
        if low <= 0 <= high:
            return Judgement("undetected")
    elif difference == 0:
        return Judgement("same")
    arrow, direction = ("↑", "higher") if difference > 0 else ("↓", "lower")
    if better is not None:
        return Judgement("better" if better else "worse", arrow, direction)
    return Judgement("different" if low is not None else "uncertain", arrow, direction)
