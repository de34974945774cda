"""The six to eight numbers that tell a study where there is little room: in report.md and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from indexscope.analysis.metrics.headline import key_metrics
from indexscope.analysis.metrics.registry import label
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.judgement import DETECTED, Judgement, Kind
from indexscope.analysis.report.numbers import digits, known
from indexscope.analysis.report.tables import compared

#: What a reading comes to where no direction is established.
SIGNS: Mapping[Kind, str] = {"same": "=", "equivalent": "≈"}
OPEN = "?"


@dataclass(frozen=True)
class KeyNumber:
    """One key number as text; what it does not have is empty.

    Attributes:
        label: The metric in plain words.
        unit: Its unit.
        baseline: The baseline's value.
        value: The model's value.
        difference: From the baseline, signed.
        interval: Of the difference; of the value where nothing is compared.
        sign: ↑ or ↓ where a difference was detected, as the value went; ≈ equivalent, = equal, ? open.
        word: How it is read: better, worse, higher, lower, equivalent.
    """

    label: str
    unit: str
    baseline: str
    value: str
    difference: str
    interval: str
    sign: str
    word: str

    @property
    def name(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def reading(self) -> str:
        """Sign and word."""
        return f"{self.sign} {self.word}".strip()


def key_numbers(report: ReportInput, model: str) -> tuple[KeyNumber, ...]:
    """The key numbers of a model that was run: beside the baseline for a candidate, else its own."""
    if any(page.name == model for page in report.candidates):
        found = _overall(report.own_comparisons(model), "difference")
        return tuple(_compared(found[metric]) for metric in key_metrics(found))
    found = _overall(report.own_metrics(model), "value")
    return tuple(_measured(found[metric]) for metric in key_metrics(found))


def _overall(rows: pl.DataFrame, needed: str) -> dict[str, dict[str, Any]]:
    """Rows over all layers by metric, of which the number is known."""
    overall = rows.filter(pl.col("layer").is_null()).iter_rows(named=True)
    return {row["metric"]: row for row in overall if known(row[needed]) is not None}


def _compared(row: Mapping[str, Any]) -> KeyNumber:
    text = compared(row)
    sign, word = _read(text.judgement)
    values = (text.baseline, text.value, text.difference, text.interval)
    return KeyNumber(label(row["metric"]), text.unit, *values, sign, word)


def _read(judgement: Judgement) -> tuple[str, str]:
    if judgement.kind in DETECTED and not judgement.stands:
        return OPEN, judgement.word
    if judgement.kind in ("better", "worse", "equivalent"):  # without the direction, which the sign tells
        return SIGNS.get(judgement.kind, judgement.arrow), judgement.kind
    return SIGNS.get(judgement.kind, judgement.arrow or OPEN), judgement.word


def _measured(row: Mapping[str, Any]) -> KeyNumber:
    unit = str(row["unit"] or "")
    style = digits(unit, (row["value"],), (row["ci_low"], row["ci_high"]))
    shown, interval = style.number(row["value"]), style.span(row["ci_low"], row["ci_high"])
    return KeyNumber(label(row["metric"]), unit, "", shown, "", interval, "", "")
