"""What the terminal tells of a report in about ten lines: verdict, key numbers or ranking, gates, the first change."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.key_numbers import KeyNumber, key_numbers
from indexscope.analysis.report.numbers import DASH, number
from indexscope.analysis.report.panelled import first_advice
from indexscope.analysis.report.ranking import advised
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.tables import ranking_rows
from indexscope.analysis.report.verdict import verdict

#: The file that is kept with a report, told when it is published, and not published itself.
TOLD = "told.txt"
#: Candidates of a ranking, and failed gates, that there is room for.
_RANKED, _FAILED = 8, 3


def build_told(report: ReportInput) -> str:
    """The lines, each with its line break, of which none breaks out of its line whatever names hold."""
    words, report = verdict(report), report.for_readers()
    lines = [words.headline, *_numbers(report), _gates(report)]
    if (found := first_advice(report, advised(report))) is not None:
        lines.append(f"first change ({plain(found[0])}): {found[1]}")
    return "".join(f"{line}\n" for line in lines if line)


def _numbers(report: ReportInput) -> list[str]:
    if len(report.candidates) > 1:
        rows = ranking_rows(report)
        more = len(rows) - _RANKED
        shown = [(f"{row[0]}.", row[1], row[2], f"loss {row[3]}", f"cost {row[5]}") for row in rows[:_RANKED]]
        return [*_aligned(shown, "rllll"), *([f"  and {more} more candidates"] if more > 0 else [])]
    pages = report.candidates or report.measured
    return [
        line for page in pages for line in _aligned([_cells(one) for one in key_numbers(report, page.name)], "lrrll")
    ]


def _cells(one: KeyNumber) -> tuple[str, ...]:
    interval = "" if one.interval == DASH else f"({one.interval})"
    return one.name, one.value, one.difference, interval, one.reading


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Rows as indented lines whose columns stand below each other; columns without text are left out."""
    columns = [
        [cell.rjust(width) if side == "r" else cell.ljust(width) for cell in column]
        for column, side in zip(zip(*rows, strict=True), sides, strict=False)
        if (width := max(map(len, column)))
    ]
    return ["  " + "  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]


def _gates(report: ReportInput) -> str:
    if report.gates.is_empty():
        return ""
    passed = int(report.gates["passed"].fill_null(value=False).sum())
    broken = report.gates.filter(~pl.col("passed").fill_null(value=False)).sort("passed", nulls_last=True)
    named = [
        f"{plain(row['name'])} ({plain(row['rule'])}; value {number(row['value'])})"
        for row in broken.head(_FAILED).iter_rows(named=True)
    ]
    more = [f"{broken.height - _FAILED} more"] if broken.height > _FAILED else []
    told = f"; not passed: {join([*named, *more])}" if named else ""
    return f"gates: {passed} of {report.gates.height} passed{told}"
