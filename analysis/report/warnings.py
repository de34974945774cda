"""What makes a study's numbers worthless or weak: told at the top of every report, and on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from analysis.report.inputs import ModelPage, ReportInput
from analysis.report.names import plain
from analysis.report.numbers import count, known, number, percent

Kind = Literal["audit", "nothing", "little"]
#: With a smaller share of queries in effect, dense and sparse runs are mostly the same computation.
LITTLE = 0.5


@dataclass(frozen=True)
class Caution:
    """One warning about one model.

    Attributes:
        kind: audit (it sees the future), nothing (its indexer selects every key) or little (it does for most queries).
        model: Name of the model.
        text: What is wrong, and what mends it.
    """

    kind: Kind
    model: str
    text: str


def warnings(report: ReportInput) -> tuple[Caution, ...]:
    """All warnings of a report, failed audits first, then indexers that are hardly in effect, in report order."""
    found = [_effect(report, page) for page in report.models]
    return (*_audits(report), *(warning for warning in found if warning is not None))


def _audits(report: ReportInput) -> list[Caution]:
    failed = report.causality.filter(pl.col("passed").eq_missing(False))
    return [
        Caution(
            "audit",
            str(row["model"]),
            f"{plain(row['model'])} failed the causality audit: later tokens moved an earlier logit by up to "
            f"{number(row['max_logit_change'])}, or are attended to; its numbers cannot be used.",
        )
        for row in failed.iter_rows(named=True)
    ]


def _effect(report: ReportInput, page: ModelPage) -> Caution | None:
    rows = report.own_metrics(page.name).filter((pl.col("metric") == "in_effect") & pl.col("value").is_finite())
    overall = rows.filter(pl.col("layer").is_null())
    if overall.is_empty() or not page.has_indexer:
        return None
    layers = rows.filter(pl.col("layer").is_not_null()).sort("value", "layer")
    share = float(overall["value"][0])
    least = float(layers["value"][0]) if layers.height else share
    lowest = layers["layer"][0] if layers.height else None
    if least >= LITTLE:
        return None
    if share == 0:
        text = f"The indexer of {plain(page.name)} selects everything: no query has more keys than it may select, so "
        return Caution("nothing", page.name, f"{text}nothing here is a result of sparsity. {_remedy(page)}")
    text = (
        f"The indexer of {plain(page.name)} is in effect for {percent(share)} of the queries"
        f"{f' (in layer {lowest} for {percent(least)})' if least < share else ''}: for the others it selects every "
        "key, so that quality and cost say little about sparsity. "
    )
    return Caution("little", page.name, text + _remedy(page))


def _remedy(page: ModelPage) -> str:
    """The length at which half of the queries have more than k keys: t >= k of 2k queries."""
    k = known(page.facts.get("index_topk"))
    joined = "samples may be shorter than that: dataset.packing joins short documents"
    if k is None or page.facts.get("entry") not in (None, "token"):
        return f"A larger dataset.max_length mends it, if there are texts of that length ({joined})."
    return (
        f"It may select {count(k)} keys, so that dataset.max_length of {count(2 * k)} or more puts half of the "
        f"queries of a sample of that length in effect ({joined})."
    )
