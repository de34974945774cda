"""What a candidate does to evidence and answers beside the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from indexscope.analysis.metrics.registry import REGISTRY, label
from indexscope.analysis.report.numbers import DASH, count, digits, known
from indexscope.analysis.report.panel import Frames, Panel, TextTable

Row = Mapping[str, Any]
_TOLD = ("evidence_selected", "evidence_attention_kept", "answer_exact", "answer_nll")


def _rows(frames: Frames, of: pl.Expr) -> list[Row]:
    frame = frames.get("evidence_changes")
    return [] if frame is None else list(frame.filter(of).iter_rows(named=True))


def _change(row: Row) -> str:
    own = digits(row["unit"], (row["difference"],), (row["ci_low"], row["ci_high"]))
    around = own.span(row["ci_low"], row["ci_high"], signed=True)
    return own.number(row["difference"], signed=True) + ("" if around == DASH else f" (CI {around})")


def words(frames: Frames) -> list[str]:
    """The differences over all samples, and in how many samples answers got better and worse."""
    whole = pl.all_horizontal(pl.col("kind", "length", "depth").is_null())
    rows = {row["metric"]: {**row, "unit": REGISTRY[row["metric"]].unit} for row in _rows(frames, whole)}
    found = [
        f"{label(name).capitalize()}: {_change(rows[name])} beside the baseline (n = {count(rows[name]['n'])} samples)."
        for name in _TOLD
        if name in rows and known(rows[name]["difference"]) is not None
    ]
    if exact := rows.get("answer_exact"):
        found.append(
            f"{count(exact['worse'])} answers that the baseline gives exactly are lost, "
            f"{count(exact['better'])} are gained."
        )
    return found


def tables(frames: Frames) -> list[TextTable]:
    """Differences by length and by kind."""
    found = []
    for by, others in (("length", ("kind", "depth")), ("kind", ("length", "depth")), ("depth", ("kind", "length"))):
        of = pl.col(by).is_not_null() & pl.all_horizontal(pl.col(*others).is_null()) & pl.col("metric").is_in(_TOLD)
        rows = sorted(_rows(frames, of), key=lambda row: (row[by], _TOLD.index(row["metric"])))
        if not rows:
            continue
        lines: dict[Any, list[str]] = {}
        for value in dict.fromkeys(row[by] for row in rows):
            cells = {row["metric"]: {**row, "unit": REGISTRY[row["metric"]].unit} for row in rows if row[by] == value}
            n = max(row["n"] for row in cells.values())
            texts = [_change(cells[name]) if name in cells else DASH for name in _TOLD]
            lines[value] = [_group(by, value), *texts, count(n)]
        heads = (_HEADS[by], *map(label, _TOLD), "n (samples)")
        found.append(
            TextTable(f"Differences from the baseline {_CAPTIONS[by]}", heads, tuple(map(tuple, lines.values())), False)
        )
    return found


_HEADS = {"length": "length (tokens)", "kind": "question", "depth": "evidence from"}
_CAPTIONS = {"length": "by length", "kind": "by kind of question", "depth": "by depth"}


def _group(by: str, value: Any) -> str:
    if by == "length":
        return count(value)
    return f"{100 * value:.3g}\u202f%" if by == "depth" else str(value).replace("_", " ")


PANEL = Panel(
    analysis="evidence_changes",
    order=25,
    chapter="changed",
    title="Evidence and answers beside the baseline",
    about=(
        "Differences are paired by sample; of two models whose k differ, the one that selects more keys holds more "
        "evidence by itself."
    ),
    words=words,
    tables=tables,
    json={
        "evidence_changes": (
            "candidate",
            *("metric", "kind", "length", "depth", "baseline", "value", "difference", "ci_low", "ci_high", "n"),
            *("better", "worse"),
        ),
    },
)
