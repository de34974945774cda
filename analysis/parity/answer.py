"""Whether dumped selections are the baseline's."""

from __future__ import annotations

from indexscope.analysis.names import plain
from indexscope.analysis.parity.panel import headline
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import NAMED


def say(report: ReportInput) -> list[str]:
    """Of each dump, or of the first ones and how many there are, whether it selects what the baseline does."""
    told = [
        f"{plain(page.name)} {headline({'metrics': frame})}"
        for page in report.dumps
        if (frame := page.frame("parity", "metrics")) is not None
    ]
    more = [f"{len(told) - NAMED} more dumps are below"] if len(told) > NAMED else []
    return [f"{join([*told[:NAMED], *more])}."] if told else []


ANSWER = Answer("changed", 5, say)
