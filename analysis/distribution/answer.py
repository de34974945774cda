"""How much of the attention the selection keeps, and in which layer it loses most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from indexscope.analysis.plots.drawing import INTERVAL
from indexscope.analysis.report.inputs import ReportInput
from indexscope.analysis.report.numbers import decimals, known, number
from indexscope.analysis.report.panel import Answer
from indexscope.analysis.report.sentences import join
from indexscope.analysis.report.spoken import Row, by, names, of_each, overall, share, spoken


def say(report: ReportInput) -> Sequence[str]:
    """Recall between a random and the best choice, and the layer that keeps least."""
    return [*_kept(report), *_worst(report)]


def _kept(report: ReportInput) -> list[str]:
    recall = overall(report, "selection_recall")
    if not recall:
        return []
    kept = of_each(
        {name: share(row) for name, row in recall.items()}, len(report.measured) == 1, " of the dense attention"
    )
    chance, best = (_like(recall, overall(report, metric)) for metric in ("random_recall", "oracle_recall"))
    bounds = f"; a random choice of as many keys would keep {chance}, the best {best}" if chance and best else ""
    return [f"The selection keeps {kept}{bounds}."]


def _like(recall: Mapping[str, Row], others: Mapping[str, Row]) -> str:
    """Values of the same models with as many digits; the first alone where others differ by less than intervals."""
    told: list[str] = []
    for name, row in others.items():
        first, (low, high) = next(iter(others.values()))["value"], (known(recall[name][end]) for end in INTERVAL)
        apart = 0.0 if low is None or high is None else (high - low) / 2
        if not told or abs(row["value"] - first) > apart:
            told.append(_percent(recall[name], row["value"]))
    return join(list(dict.fromkeys(told)))


def _percent(row: Row, value: float) -> str:
    ends = [None if (end := known(row[name])) is None else 100 * end for name in INTERVAL]
    return f"{number(100 * value, places=decimals(ends, 100 * value))}\u202f%"


def _worst(report: ReportInput) -> list[str]:
    layers = report.metrics.filter(pl.col("layer").is_not_null() & pl.col("value").is_finite())
    found = {}
    for name in spoken(report):
        rows = layers.filter((pl.col("model") == name) & (pl.col("metric") == "selection_recall"))
        if rows.height > 1:
            found[name] = rows.sort("value", "layer").to_dicts()
    told, alone = [], len(report.measured) == 1
    for layer, models in by({name: rows[0]["layer"] for name, rows in found.items()}).items():
        kept = of_each({name: share(found[name][0]) for name in models}, alone)
        own = layers.filter((pl.col("metric") == "oracle_recall") & (pl.col("layer") == layer))
        best = {row["model"]: row for row in own.iter_rows(named=True) if row["model"] in models}
        limit = _like({name: found[name][0] for name in models}, {name: best[name] for name in models if name in best})
        whose = "" if len(found) == len(models) else f" of {names(models)}"
        told.append(
            f"Layer {layer}{whose} loses most{_doubt([found[name] for name in models])}: it keeps {kept}"
            + (f"; the best choice of as many keys would keep {limit} there." if limit else ".")
        )
    return told


def _doubt(each: Sequence[Sequence[Row]]) -> str:
    """Which layers may lose as much, as far as intervals tell."""
    if any(known(rows[0]["ci_high"]) is None for rows in each):
        return " by estimate"
    close = {row["layer"] for first, *others in each for row in others if _reaches(row, first["ci_high"])}
    if not close:
        return ""
    which = f"layer {min(close)}" if len(close) == 1 else f"{len(close)} other layers"
    return f" by estimate, not certainly more than {which}"


def _reaches(row: Row, high: float) -> bool:
    low = known(row["ci_low"])
    return low is None or low <= high


ANSWER = Answer("misses", 10, say)
