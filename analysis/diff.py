"""The differences between two finished reports, row by row, and the rules that fail a build over them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.gates import Rule, parse_rule
from analysis.metrics import REGISTRY
from indexscope.errors import IndexscopeError

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
}
_SAME = 1e-9
Row = Mapping[str, Any]
Pair = tuple[Row | None, Row | None]


def diff(report_a: Mapping[str, Any], report_b: Mapping[str, Any]) -> pl.DataFrame:
    """Compare two reports (contents of ``report.json``): every metric and layer of every matching pair of models.

    Models are matched baseline with baseline; candidates by name, and those whose name the other report lacks in the
    order in which they stand. A model left over is listed with its metrics as "only in a" or "only in b".

    Intervals: where one of the reports compares just these two models (by fingerprint) and its values are the ones at
    hand, the difference carries that comparison's interval ("paired"; "repeats" for timings). Otherwise it is formed
    from the two models' own intervals as if they were independent (square-and-add: Zou & Donner 2008, "Construction of
    confidence limits about effect measures", Statistics in Medicine 27), which is too wide rather than too narrow on
    the same samples ("independent"). Without both intervals there is none.

    Returns:
        role, model_a, model_b, metric, layer, unit, a, b, difference (b - a), ci_low, ci_high, interval, n, better and
        status ("both", "only in a", "only in b"). ``better`` is null where the interval holds zero, where a sampled
        metric has no interval, and where the metric has no direction.

    Raises:
        IndexscopeError: A report lacks a key that every report has.
    """
    rows: list[dict[str, Any]] = []
    for first, second in _pairs(_models(report_a, "a"), _models(report_b, "b")):
        rows += _rows(report_a, report_b, first, second)
    return pl.DataFrame(rows, schema=DIFFERENCES, orient="row")


def between(one: Row, two: Row) -> Row:
    """The difference of two values of one metric that were measured apart, as if they were independent.

    Args:
        one: A metric of a report: name, unit, value, ci_low, ci_high and n.
        two: The same metric of another report.

    Returns:
        difference (two - one), ci_low, ci_high, interval, n and better, as in `diff`; nothing where a value is missing.
    """
    return _difference(one, two, None)


def fail_on(rule: str | Rule, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows over all layers that satisfy a rule such as ``recall < -0.01``: any row means failure.

    A bare metric, like ``.difference``, is the difference b - a; ``.value`` is b, and ``.ratio`` is b / a.

    Raises:
        IndexscopeError: The rule does not parse, or no pair of models has a value for it: what cannot be looked at must
            not pass in silence.
    """
    parsed = parse_rule(rule) if isinstance(rule, str) else rule
    rows = frame.filter((pl.col("metric") == parsed.metric) & pl.col("layer").is_null() & (pl.col("status") == "both"))
    values = [_quantity(parsed, row) for row in rows.iter_rows(named=True)]
    if not any(value is not None for value in values):
        what = f"{parsed.quantity}{' (' + parsed.bound + ' bound)' if parsed.bound else ''} of {parsed.metric}"
        raise IndexscopeError(
            f"rule '{parsed.text}'", f"no pair of models has a {what}", "use a metric that both reports hold"
        )
    return rows.filter(pl.Series([parsed.holds(value) for value in values], dtype=pl.Boolean))


def _quantity(rule: Rule, row: Row) -> float | None:
    if rule.quantity == "ratio":
        return row["b"] / row["a"] if row["a"] and row["b"] is not None else None
    if rule.quantity == "value" and rule.bound:
        return None  # the frame holds the bounds of the difference
    column = {"lower": "ci_low", "upper": "ci_high"}.get(rule.bound, "b" if rule.quantity == "value" else "difference")
    value: float | None = row[column]
    return value


def _models(report: Mapping[str, Any], which: str) -> list[Row]:
    for key in ("models", "metrics", "comparisons"):
        if not isinstance(report.get(key), list):
            raise IndexscopeError(f"report {which}", f"has no {key}", "give a report.json written by indexscope")
    return list(report["models"])


def _pairs(first: list[Row], second: list[Row]) -> list[Pair]:
    """Baselines together, candidates by name, the rest in order, and what is left over alone."""
    pairs: list[Pair] = []
    for role in ("baseline", "candidate"):
        ours = [model for model in first if model["role"] == role]
        theirs = [model for model in second if model["role"] == role]
        names = {model["name"]: model for model in theirs} if role == "candidate" else {}
        taken = [names[model["name"]]["name"] for model in ours if model["name"] in names]
        rest = [model for model in theirs if model["name"] not in taken]
        for model in ours:
            partner = names.get(model["name"]) or (rest.pop(0) if rest else None)
            pairs.append((model, partner))
        pairs += [(None, model) for model in rest]
    return pairs


def _rows(
    report_a: Mapping[str, Any], report_b: Mapping[str, Any], a: Row | None, b: Row | None
) -> list[dict[str, Any]]:
    ours = _metrics(report_a, a)
    theirs = _metrics(report_b, b)
    paired = _paired(report_a, report_b, a, b)
    role = (a or b or {})["role"]
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
        }
        rows.append({name: {**row, **_difference(one, two, paired.get(key))}.get(name) for name in DIFFERENCES})
    return rows


def _metrics(report: Mapping[str, Any], model: Row | None) -> dict[tuple[str, int | None], Row]:
    if model is None:
        return {}
    return {(row["name"], row["layer"]): row for row in report["metrics"] if row["model"] == model["name"]}


def _paired(
    report_a: Mapping[str, Any], report_b: Mapping[str, Any], a: Row | None, b: Row | None
) -> dict[tuple[str, int | None], Row]:
    """Rows of a comparison, in either report, of model a as the baseline with model b as the candidate."""
    if a is None or b is None or not a["fingerprint"]:
        return {}
    for report in (report_b, report_a):
        base = next((model for model in report["models"] if model["role"] == "baseline"), None)
        other = next(
            (m for m in report["models"] if m["role"] != "baseline" and m["fingerprint"] == b["fingerprint"]), None
        )
        if base is not None and other is not None and base["fingerprint"] == a["fingerprint"]:
            rows = [row for row in report["comparisons"] if row["candidate"] == other["name"]]
            return {(row["metric"], row["layer"]): row for row in rows}
    return {}


def _difference(one: Row | None, two: Row | None, paired: Row | None) -> dict[str, Any]:
    if one is None or two is None or one["value"] is None or two["value"] is None:
        return {}
    difference = two["value"] - one["value"]
    counts = [row["n"] for row in (one, two) if row["n"] is not None]
    low, high, kind = _interval(one, two, paired)
    return {
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "interval": kind,
        "n": min(counts, default=None),
        "better": _better(one["name"], difference, low, high, _sampled(one) or _sampled(two)),
    }


def _interval(one: Row, two: Row, paired: Row | None) -> tuple[float | None, float | None, str | None]:
    a, b = one["value"], two["value"]
    if paired is not None and _sampled(paired) and _same(paired["baseline"], a) and _same(paired["value"], b):
        return paired["ci_low"], paired["ci_high"], "repeats" if one["unit"] == "ms" else "paired"
    if not (_sampled(one) and _sampled(two)):
        return None, None, None
    low = b - a - math.hypot(b - two["ci_low"], one["ci_high"] - a)
    high = b - a + math.hypot(two["ci_high"] - b, a - one["ci_low"])
    return low, high, "independent"


def _same(one: float | None, two: float) -> bool:
    return one is not None and math.isclose(one, two, rel_tol=_SAME, abs_tol=1e-12)


def _sampled(row: Row) -> bool:
    return row["ci_low"] is not None and row["ci_high"] is not None


def _better(metric: str, difference: float, low: float | None, high: float | None, sampled: bool) -> bool | None:
    entry = REGISTRY.get(metric)
    if entry is None or entry.better == "neither" or entry.table == "profile" or difference == 0:
        return None
    if low is None or high is None:
        # Parameters and FLOPs are counted: they differ or they do not. A sample without an interval says nothing.
        if sampled or entry.table != "facts":
            return None
    elif low <= 0 <= high:
        return None
    return (difference > 0) == (entry.better == "higher")
