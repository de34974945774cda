"""Recommendations, first of all panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from indexscope.analysis.recommendations.figures import taken_away
from indexscope.analysis.recommendations.words import NOTHING, line, rounded, sentence
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import DASH, known, number, span
from indexscope.analysis.report.overlaid import looks
from indexscope.analysis.report.panel import Drawn, Frames, Panel, TextTable

SHOWN = 12
_PLACES = 4
"""Decimals of recall: of what is less than the tenth of a thousandth nothing depends."""


def _words(frames: Frames) -> Sequence[str]:
    if "recommendations" not in frames:
        return []
    rows = frames["recommendations"].sort("rank").head(3).to_dicts()
    more = frames["recommendations"].height - len(rows)
    sentences = [sentence(row) for row in rows]
    if more > 0:
        sentences.append(f"{more} further {'change is' if more == 1 else 'changes are'} in the table.")
    sentences.append(
        "Each change was judged on its own: losses of several changes together are not the sum of theirs, and none was "
        "trained in. Run the changed model as a candidate before relying on it."
    )
    return sentences


def _advice(frames: Frames) -> str:
    if "recommendations" not in frames:
        return ""
    return line(frames["recommendations"].sort("rank").row(0, named=True))


def across(report: ReportInput) -> list[Drawn]:
    """What could be taken away from each model."""
    caption = (
        "Recall lost in all layers against the operations of indexer and attention saved at the study's lengths, by "
        "formula; a point is one head, one indexer or one k less, and nothing is retrained. Bands: confidence "
        "intervals; smaller k has none. Ringed: recommended within the study's limit. Losses above 0.1 are not shown."
    )
    figure = taken_away(report.frames("recommendations", "recommendation_options"), looks(report))
    return [Drawn("taken-away", "What could be taken away", caption, figure)]


def _tables(frames: Frames) -> Sequence[TextTable]:
    if "recommendations" not in frames:
        return []
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
                    _loss(row),
                    span(row["ci_low"], row["ci_high"], places=_PLACES, signed=True),
                    _share(row["saving"]),
                    _share(row["saving_at_64k"]),
                    str(row["basis"]),
                    str(row["caveat"]),
                )
                for row in rows.iter_rows(named=True)
            ),
        )
    ]


def _loss(row: Mapping[str, Any]) -> str:
    """An estimate without an interval that is nothing is told as that, whichever side of nothing it lies on."""
    loss = known(row["expected_loss"])
    if loss is not None and known(row["ci_low"]) is None and abs(loss) <= NOTHING:
        return f"within ±{NOTHING:g}"
    return number(loss, places=_PLACES, signed=True)


def _share(value: object) -> str:
    amount = known(value)
    return DASH if amount is None else rounded(amount)


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
    across=across,
    json={
        "recommendations": (
            *("rank", "kind", "change", "expected_loss", "ci_low", "ci_high", "mean_loss", "saving", "saving_at_64k"),
            *("basis", "caveat"),
        ),
        "recommendation_options": (
            "kind",
            "change",
            "expected_loss",
            "ci_low",
            "ci_high",
            "saving",
            "saving_at_64k",
            "recommended",
        ),
    },
)
