"""What makes a study's numbers worthless or weak: told at the top of every report, and on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import polars as pl

from indexscope.analysis.names import plain
from indexscope.analysis.report.effect import LITTLE, hardly_in_effect, remedy, selects_everything
from indexscope.analysis.report.inputs import ModelPage, ReportInput
from indexscope.analysis.report.numbers import known, number, percent
from indexscope.analysis.report.sentences import name_of, with_unit
from indexscope.errors import one_line

Kind = Literal["missing", "audit", "nothing", "little", "small"]
#: What a study must be able to settle.
QUALITIES = ("nll", "selection_skill")


@dataclass(frozen=True)
class Caution:
    """One warning about one model.

    Attributes:
        kind: missing (it failed, so it has no result), audit (it sees the future), nothing (its indexer selects every
            key), little (it does for most queries) or small (too few samples to detect a difference of the margin).
        model: Name of the model.
        text: What is wrong, and what mends it.
    """

    kind: Kind
    model: str
    text: str


def warnings(report: ReportInput) -> tuple[Caution, ...]:
    """All warnings of a report: what is missing, failed audits, indexers hardly in effect, too few samples."""
    found = [_effect(report, page) for page in report.models] + [_power(report, page) for page in report.candidates]
    return (*_missing(report), *_audits(report), *(warning for warning in found if warning is not None))


def _missing(report: ReportInput) -> list[Caution]:
    return [
        Caution(
            "missing",
            name,
            f"{plain(name)} is missing, so this report is not complete: {one_line(reason).rstrip('.')}. "
            f"Nothing here is said of it{'; its gates count as failed' if report.gates.height else ''}.",
        )
        for name, reason in report.missing.items()
    ]


def _audits(report: ReportInput) -> list[Caution]:
    failed = report.causality.filter(pl.col("model").is_in(list(report.leaking)))
    return [
        Caution(
            "audit",
            str(row["model"]),
            f"{plain(row['model'])} failed the causality audit: later tokens moved an earlier logit by up to "
            f"{number(row['max_logit_change'])}, or are attended to; its numbers cannot be used, and nothing is "
            "concluded from them.",
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
        return Caution("nothing", page.name, f"{selects_everything(plain(page.name))} {_remedy(page)}")
    detail = f"in layer {lowest} for {percent(least)}" if least < share else ""
    return Caution("little", page.name, f"{hardly_in_effect(plain(page.name), share, detail)} {_remedy(page)}")


def _power(report: ReportInput, page: ModelPage) -> Caution | None:
    """Headline qualities that were left open because the study could not have told."""
    rows = report.own_comparisons(page.name).filter(
        pl.col("layer").is_null()
        & pl.col("metric").is_in(QUALITIES)
        & (pl.col("verdict") == "inconclusive")
        & (pl.col("mde") > pl.col("margin"))
    )
    if rows.is_empty():
        return None
    told, needed = [], 0
    for row in rows.iter_rows(named=True):
        unit = str(row["unit"] or "")
        told.append(
            f"{name_of(row['metric'])}: detects {with_unit(row['mde'], unit)}, margin {with_unit(row['margin'], unit)}"
        )
        if row["margin"] > 0:  # the standard error falls with the root of the number of samples
            needed = max(needed, math.ceil(row["n"] * (row["mde"] / row["margin"]) ** 2))
    remedy = f" About {number(float(f'{needed:.2g}'), 'tokens')} samples would detect the margin." if needed else ""
    return Caution(
        "small",
        page.name,
        f"The study is too small to settle {plain(page.name)}: of a true difference as large as the margin it detects "
        f"less than 80\u202f% ({'; '.join(told)}).{remedy}",
    )


def _remedy(page: ModelPage) -> str:
    k = known(page.facts.get("index_topk"))
    return remedy(int(k) if k is not None and page.facts.get("entry") in (None, "token") else None)
