"""Recommendations, first of all panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from indexscope.analysis.report.numbers import DASH, known, number, percent, span
from indexscope.analysis.report.panel import Frames, Panel, TextTable

SHOWN = 12


def _words(frames: Frames) -> Sequence[str]:
    rows = frames["recommendations"].sort("rank").head(3).to_dicts()
    more = frames["recommendations"].height - len(rows)
    sentences = [_sentence(row) for row in rows]
    if more > 0:
        sentences.append(f"{more} further {'change is' if more == 1 else 'changes are'} in the table.")
    sentences.append(
        "Each change was judged on its own: losses of several changes together are not the sum of theirs, and none was "
        "trained in. Run the changed model as a candidate before relying on it."
    )
    return sentences


def _advice(frames: Frames) -> str:
    return _sentence(frames["recommendations"].sort("rank").row(0, named=True))


def _sentence(row: dict[str, Any]) -> str:
    change = str(row["change"])
    loss = known(row["expected_loss"]) or 0.0
    what = f"gains {number(-loss)} of recall" if loss < 0 else f"loses {number(loss)} of recall"
    interval = span(row["ci_low"], row["ci_high"])
    bounds = f" (interval of the loss {interval})" if interval != DASH else " (no interval)"
    saved = [
        f"{percent(value)} {where}"
        for value, where in (
            (known(row["saving"]), "at the study's lengths"),
            (known(row["saving_at_64k"]), "at 64 k tokens"),
        )
        if value is not None and value > 0
    ]
    saving = f" and saves {' and '.join(saved)} of the operations of indexer and attention" if saved else ""
    start = change if change.startswith("k ") else f"{change[:1].upper()}{change[1:]}"
    return f"{start}: {what}{bounds}{saving}."


def _tables(frames: Frames) -> Sequence[TextTable]:
    rows = frames["recommendations"].sort("rank").head(SHOWN)
    return [
        TextTable(
            "Recommended changes, by saving where the loss is within the tolerance, then by saving per loss; savings "
            "are shares of the operations of indexer and attention",
            ("#", "change", "loss of recall", "interval", "saves here", "saves at 64 k", "basis", "caveat"),
            tuple(
                (
                    str(row["rank"]),
                    str(row["change"]),
                    number(row["expected_loss"], signed=True),
                    span(row["ci_low"], row["ci_high"]),
                    _share(row["saving"]),
                    _share(row["saving_at_64k"]),
                    str(row["basis"]),
                    str(row["caveat"]),
                )
                for row in rows.iter_rows(named=True)
            ),
        )
    ]


def _share(value: object) -> str:
    amount = known(value)
    return DASH if amount is None else percent(amount)


PANEL = Panel(
    analysis="recommendations",
    order=10,
    chapter="change",
    title="Recommendations",
    about=(
        "Changes whose expected loss stays below the study's limit, from what was measured of heads, layers and "
        "budgets. Recall is the share of the dense attention that falls on selected keys."
    ),
    words=_words,
    tables=_tables,
    advice=_advice,
)
