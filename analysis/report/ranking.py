"""Candidates in order: those that are shown to keep the quality first, and among them the cheapest."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from indexscope.analysis.comparison.budgets import OTHER_K
from indexscope.analysis.comparison.fronts import COST, model_front
from indexscope.analysis.report.inputs import ReportInput, once
from indexscope.analysis.report.judgement import judge
from indexscope.analysis.report.numbers import known
from indexscope.columns import interval, of, places, table_of

RANKING = table_of(
    "candidate",
    "candidate",
    of(pl.Int32, rank="Place, from 1."),
    places("candidate"),
    of(pl.String, quality="kept, open, lost or void, as the rule of the ranking has it."),
    of(pl.Float64, "nats", nll_difference="Next-token loss less the baseline's."),
    interval("nats", "nll_low", "nll_high"),
    of(pl.String, nll_verdict="Verdict of that difference, as among the comparisons."),
    of(pl.Float64, "share", recall_difference="Selection recall less the baseline's."),
    interval("share", "recall_low", "recall_high"),
    of(pl.String, recall_verdict="Verdict of that difference."),
    of(pl.Float64, "ratio", cost="Relative cost (indexer and attention) as a ratio to the baseline's."),
    of(pl.Float64, "score", efficiency_score="The metric of that name."),
    of(
        pl.Boolean,
        nll_front="Whether it is on the Pareto front of cost and next-token loss.",
        recall_front="Whether it is on that of cost and selection recall.",
    ),
    ordered=False,
)
RULE = (
    "Ordered by quality, then cost, then loss. First come candidates whose next-token loss and selection recall "
    "(selection skill, where k differs) are both shown to be no worse than the margin allows (kept), then those of "
    "which one is not shown (open), then those "
    "with one that is detectably worse and not shown to be within the margin (lost), last those that leak, or "
    "whose baseline does (void); a metric that cannot be compared is left out. Within each, the lowest relative cost "
    "(indexer and attention) comes first, and the smaller next-token loss where those are equal. On the front: no "
    "other model, the baseline included, beats it in cost and quality at once, by the estimates; models that leak do "
    "not compete."
)
QUALITIES = ("kept", "open", "lost", "void")
_FIELDS = {"nll": "nll", "recall": "selection_recall"}
#: What stands for a metric where the models' k differ.
_AT_OTHER_K = {"selection_recall": "selection_skill"}
_PARTS = {"difference": "difference", "low": "ci_low", "high": "ci_high"}


@once
def ranking(report: ReportInput) -> pl.DataFrame:
    """All candidates, the best first, as RULE orders them.

    Returns:
        rank (from 1), candidate, quality (kept, open, lost or void), difference, interval and verdict of nll (nats) and
        selection recall, cost (relative cost as a ratio to the baseline's), efficiency_score, and whether the candidate
        is on the Pareto front of cost and either quality; null where that cannot be said.
    """
    of_baseline = report.baseline is not None and report.baseline.name in report.leaking
    void = report.names if of_baseline else report.leaking
    models = [page.name for page in report.measured if page.name not in report.leaking]
    fronts = {name: model_front(report.metrics, models, metric) for name, metric in _FIELDS.items()}
    rows = []
    for page in report.candidates:
        own = {
            row["metric"]: row
            for row in report.own_comparisons(page.name).filter(pl.col("layer").is_null()).iter_rows(named=True)
        }
        cost = own.get(COST, {})
        paid, base = known(cost.get("value")), known(cost.get("baseline"))
        row: dict[str, Any] = {
            "candidate": page.name,
            "quality": "void" if page.name in void else _quality([_of(own, name) for name in _FIELDS.values()]),
            "cost": paid / base if paid is not None and base else None,
            "efficiency_score": known(own.get("efficiency_score", {}).get("value")),
        }
        for name, metric in _FIELDS.items():
            found = own.get(metric, {})
            row |= {f"{name}_{part}": known(found.get(key)) for part, key in _PARTS.items()}
            row |= {f"{name}_verdict": found.get("verdict"), f"{name}_front": fronts[name].get(page.name)}
        rows.append(row)
    rows.sort(key=lambda row: (QUALITIES.index(row["quality"]), _last(row["cost"]), _last(row["nll_difference"])))
    return pl.DataFrame([{"rank": place, **row} for place, row in enumerate(rows, 1)], schema=RANKING.schema)


def advised(report: ReportInput) -> list[str]:
    """The models in the order in which advice on them is of interest: candidates by rank, then the others."""
    ranked = ranking(report)["candidate"].to_list()
    return [*ranked, *(name for name in report.names if name not in ranked)]


def _of(own: dict[str, dict[str, Any]], metric: str) -> dict[str, Any] | None:
    """The row that says whether a quality is kept."""
    row = own.get(metric)
    return own.get(_AT_OTHER_K[metric]) if row is not None and row["verdict"] == OTHER_K else row


def _quality(rows: list[dict[str, Any] | None]) -> str:
    found = [row for row in rows if row is not None and known(row["difference"]) is not None]
    judged = [judge(row) for row in found]
    if any(own.kind == "worse" and own.stands for own in judged):
        return "lost"
    return "kept" if found and all(row["no_worse"] for row in found) else "open"


def _last(value: float | None) -> float:
    return np.inf if value is None else value
