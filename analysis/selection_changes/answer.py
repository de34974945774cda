"""How much of the selection changed, where most, and whether it mattered."""

from __future__ import annotations

from typing import Any

import polars as pl

from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import known, percent
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.spoken import NAMED, called, leading, share


def say(report: ReportInput) -> list[str]:
    """A sentence a candidate that is named, and the range over all where they are many."""
    found = [text for page in leading(report) if (text := _of(report, page))]
    kept = [
        share
        for page in report.candidates
        if (rows := _rows(page, "selection_kept")) is not None and (share := _overall(rows)) is not None
    ]
    if found and len(kept) > NAMED:
        least, most = (known(pick(row["value"] for row in kept)) or 0.0 for pick in (min, max))
        found[-1] = f"{found[-1][:-1]}; over all candidates {percent(least)} to {percent(most)} are kept."
    return found


def _of(report: ReportInput, page: ModelPage) -> str:
    rows, moved = _rows(page, "selection_kept"), _rows(page, "selection_mass_lost")
    whole = None if rows is None else _overall(rows)
    if rows is None or whole is None:
        return ""
    text = f"Of the baseline's selected keys {called(report, page)} keeps {share(whole)}"
    layers = rows.drop_nulls("layer").sort("value", "layer")
    if layers.height > 1 and layers["value"][0] < layers["value"][-1]:
        text += f", fewest in layer {layers['layer'][0]} ({percent(layers['value'][0])})"
    lost = None if moved is None else _overall(moved)
    if lost is None:
        return f"{text}."
    low, high = known(lost["ci_low"]), known(lost["ci_high"])
    if low is not None and high is not None and low <= 0 <= high:
        return f"{text}; that loses no measurable share of the baseline's attention (at most {percent(high)})."
    verb = "loses" if lost["value"] > 0 else "gains"
    amount = {name: abs(known(lost[name]) or 0.0) for name in ("value", "ci_low", "ci_high")}
    ends = sorted((amount["ci_low"], amount["ci_high"]))
    bounded = {"value": amount["value"], "ci_low": None, "ci_high": None}
    if low is not None and high is not None:
        bounded |= {"ci_low": ends[0], "ci_high": ends[1]}
    return f"{text}; that {verb} {share(bounded)} of the baseline's attention."


def _rows(page: ModelPage, metric: str) -> pl.DataFrame | None:
    frame = page.frame("selection_changes", "metrics")
    return None if frame is None else frame.filter((pl.col("metric") == metric) & pl.col("value").is_finite())


def _overall(rows: pl.DataFrame) -> dict[str, Any] | None:
    whole = rows.filter(pl.col("layer").is_null())
    return whole.row(0, named=True) if whole.height else None


ANSWER = Answer("changed", 10, say)
