"""The rows of a difference: every metric and layer of every pair of models, with the interval that can be had."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from indexscope.analysis.comparison.budgets import SHARE
from indexscope.analysis.diff.pairs import Pair, Row, matched
from indexscope.analysis.leaks import leaking_in
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.settings import ComparisonSettings
from indexscope.analysis.statistics.margins import ROUNDING

Frames = Mapping[str, pl.DataFrame]
Cell = tuple[str, int | None]
#: Rows of a comparison from values by sample, by the names of model a and model b.
Paired = Callable[[str, str], Mapping[Cell, Row]]
DIFFERENCES: Mapping[str, Any] = {
    "role": pl.String,
    "model_a": pl.String,
    "model_b": pl.String,
    "metric": pl.String,
    "layer": pl.Int16,
    "unit": pl.String,
    "a": pl.Float64,
    "b": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "interval": pl.String,
    "n": pl.Int32,
    "better": pl.Boolean,
    "status": pl.String,
    "leaks": pl.String,
}
_SAME = 1e-9


def diff(
    report_a: Mapping[str, Any],
    report_b: Mapping[str, Any],
    pairs: Sequence[Pair] | None = None,
    paired: Paired | None = None,
) -> pl.DataFrame:
    """Compare two reports (contents of ``report.json``): every metric and layer of every pair of models.

    Intervals: where values by sample are at hand, the difference and its interval are those of `compare`, a bootstrap
    in which both models share the resampled samples ("paired"; "repeats" for timings). Else, where one of the reports
    compares just these two models (by fingerprint) and its values are the ones at hand, the difference carries that
    comparison's interval. Otherwise it is formed from the two models' own intervals as if they were independent
    (square-and-add: Zou & Donner 2008, "Construction of confidence limits about effect measures", Statistics in
    Medicine 27), which is too wide rather than too narrow on the same samples ("independent"). Without both intervals
    there is none.

    Args:
        report_a: One report.
        report_b: The other; it may be the same one.
        pairs: Which models are compared, by default those of `matched`. A model without a partner is listed with its
            metrics as "only in a" or "only in b".
        paired: Gives the comparison of two models from values by sample; None where there are none.

    Returns:
        role, model_a, model_b, metric, layer, unit, a, b, difference (b - a), ci_low, ci_high, interval, n, better and
        status ("both", "only in a", "only in b"), leaks (which model failed the causality audit, "a", "b" or "both";
        null for none). ``better`` is null where the interval holds zero, where the values agree to a millionth, where
        a sampled metric has no interval, where the metric has no direction or compares only at an equal k and k
        differs, and where a model leaks. A metric whose units differ has no difference.

    Raises:
        IndexscopeError: A report lacks a key that every report has, or models were not measured on the same samples.
    """
    rows: list[dict[str, Any]] = []
    for first, second in matched(report_a, report_b) if pairs is None else pairs:
        rows += _rows(report_a, report_b, first, second, paired)
    return pl.DataFrame(rows, schema=DIFFERENCES, orient="row")


def paired_rows(base: Frames, own: Frames, settings: ComparisonSettings) -> dict[Cell, Row]:
    """Compare two models of different studies by their values by sample; see `indexscope.analysis.comparison.compare`.

    Args:
        base: Frames ``metrics`` and ``per_sample`` of model a.
        own: Those of model b, on the same samples.
        settings: The bootstrap.

    Raises:
        IndexscopeError: The models were measured on different samples.
    """
    from indexscope.analysis.comparison.compare import compare  # it imports scipy, of which reports' numbers need none

    rows = compare({"A": base, "B": own}, "A", settings)
    return {(row["metric"], row["layer"]): row for row in rows.iter_rows(named=True)}


def between(one: Row, two: Row) -> Row:
    """The difference of two values of one metric that were measured apart, as if they were independent.

    Args:
        one: A metric of a report: name, unit, value, ci_low, ci_high and n.
        two: The same metric of another report.

    Returns:
        difference (two - one), ci_low, ci_high, interval, n and better, as in `diff`; nothing where a value is missing.
    """
    return _difference(one, two, None)


def _rows(
    report_a: Mapping[str, Any], report_b: Mapping[str, Any], a: Row | None, b: Row | None, paired: Paired | None
) -> list[dict[str, Any]]:
    ours = _metrics(report_a, a)
    theirs = _metrics(report_b, b)
    lent = _lent(report_a, report_b, a, b)
    found = paired(a["name"], b["name"]) if paired is not None and a and b else {}
    role = (b or a or {})["role"]
    leaks = _leaks(report_a, report_b, a, b)
    rows = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        one, two = ours.get(key), theirs.get(key)
        known: Row = one or two or {}
        row = {
            "role": role,
            "model_a": a["name"] if a else None,
            "model_b": b["name"] if b else None,
            "metric": key[0],
            "layer": key[1],
            "unit": known["unit"],
            "a": one["value"] if one else None,
            "b": two["value"] if two else None,
            "status": "both" if one and two else "only in a" if one else "only in b",
            "leaks": leaks,
        }
        void = leaks or _other_k(ours, theirs, key)
        difference = _difference(one, two, found.get(key) or lent.get(key)) | ({"better": None} if void else {})
        rows.append({name: {**row, **difference}.get(name) for name in DIFFERENCES})
    return rows


def _leaks(report_a: Mapping[str, Any], report_b: Mapping[str, Any], a: Row | None, b: Row | None) -> str | None:
    in_a = a is not None and a["name"] in leaking_in(report_a)
    in_b = b is not None and b["name"] in leaking_in(report_b)
    return "both" if in_a and in_b else "a" if in_a else "b" if in_b else None


def _other_k(ours: Mapping[Cell, Row], theirs: Mapping[Cell, Row], key: Cell) -> bool:
    """Whether the metric only compares at an equal k, and the models' k differ."""
    metric, layer = key
    if metric not in REGISTRY or not REGISTRY[metric].at_equal_k:
        return False
    one, two = (side.get((SHARE, layer), {}).get("value") for side in (ours, theirs))
    return one is not None and two is not None and abs(two - one) > ROUNDING * abs(one)


def _metrics(report: Mapping[str, Any], model: Row | None) -> dict[tuple[str, int | None], Row]:
    if model is None:
        return {}
    return {(row["name"], row["layer"]): row for row in report["metrics"] if row["model"] == model["name"]}


def _lent(
    report_a: Mapping[str, Any], report_b: Mapping[str, Any], a: Row | None, b: Row | None
) -> dict[tuple[str, int | None], Row]:
    """Rows of a comparison, in either report, of model a as the baseline with model b as the candidate."""
    if a is None or b is None or not a["fingerprint"] or not b["fingerprint"]:
        return {}
    for report in (report_b, report_a):
        base = next((model for model in report["models"] if model["role"] == "baseline"), None)
        other = next(
            (m for m in report["models"] if m["role"] != "baseline" and m["fingerprint"] == b["fingerprint"]), None
        )
        if base is not None and other is not None and base["fingerprint"] == a["fingerprint"]:
            rows = [row for row in report["comparisons"] if row["candidate"] == other["name"]]
            return {(row["metric"], row.get("layer")): row for row in rows}
    return {}


def _difference(one: Row | None, two: Row | None, paired: Row | None) -> dict[str, Any]:
    if one is None or two is None or one["value"] is None or two["value"] is None or one["unit"] != two["unit"]:
        return {}
    difference = two["value"] - one["value"]
    counts = [row["n"] for row in (paired or {}, one, two) if row.get("n") is not None]
    low, high, kind = _interval(one, two, paired)
    if paired is not None and kind in ("paired", "repeats"):
        better = paired["better"]  # as the comparison judges it
    else:
        better = _better(one["name"], one["value"], two["value"], low, high, _sampled(one) or _sampled(two))
    return {
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "interval": kind,
        "n": min(counts, default=None),
        "better": better,
    }


def _interval(one: Row, two: Row, paired: Row | None) -> tuple[float | None, float | None, str | None]:
    a, b = one["value"], two["value"]
    if paired is not None and _sampled(paired) and _same(paired["baseline"], a) and _same(paired["value"], b):
        return paired["ci_low"], paired["ci_high"], "repeats" if _kind(one["name"]) == "timing" else "paired"
    if not (_sampled(one) and _sampled(two)):
        return None, None, None
    low = b - a - math.hypot(b - two["ci_low"], one["ci_high"] - a)
    high = b - a + math.hypot(two["ci_high"] - b, a - one["ci_low"])
    return low, high, "independent"


def _same(one: float | None, two: float) -> bool:
    return one is not None and math.isclose(one, two, rel_tol=_SAME, abs_tol=1e-12)


def _sampled(row: Row) -> bool:
    return row.get("ci_low") is not None and row.get("ci_high") is not None


def _kind(metric: str) -> str:
    entry = REGISTRY.get(metric)
    return "sample" if entry is None else entry.kind


def _better(metric: str, a: float, b: float, low: float | None, high: float | None, sampled: bool) -> bool | None:
    entry = REGISTRY.get(metric)
    if entry is None or entry.better == "neither" or entry.kind == "timing" or b == a:
        return None
    if low is None or high is None:
        # Parameters and FLOPs are counted: they differ or they do not. A sample without an interval says nothing.
        if sampled or entry.kind != "count":
            return None
    elif low <= 0 <= high or abs(b - a) <= ROUNDING * max(abs(a), abs(b)):
        return None
    return (b > a) == (entry.better == "higher")
