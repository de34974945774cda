"""Which model of one report is set beside which model of another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from indexscope.errors import IndexscopeError

Row = Mapping[str, Any]
Pair = tuple[Row | None, Row | None]


def matched(report_a: Mapping[str, Any], report_b: Mapping[str, Any]) -> list[Pair]:
    """Baseline with baseline; candidates by name, the rest in the order in which they stand, and what is left alone.

    Raises:
        IndexscopeError: A report has no model.
    """
    first, second = _models(report_a, "A"), _models(report_b, "B")
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


def within(report: Mapping[str, Any]) -> list[Pair]:
    """The baseline with each candidate of one report.

    Raises:
        IndexscopeError: The report has no candidate.
    """
    models = _models(report, "A")
    baseline = next((model for model in models if model["role"] == "baseline"), None)
    candidates = [model for model in models if model["role"] != "baseline"]
    if baseline is None or not candidates:
        missing = [row["model"] for row in report.get("warnings", ()) if row.get("kind") == "missing"]
        why = f" ({', '.join(missing)} failed)" if missing else ""
        raise IndexscopeError(
            "A", f"has no candidate to compare with its baseline{why}", "name a second report or store"
        )
    return [(baseline, candidate) for candidate in candidates]


def chosen_pairs(
    pairs: Sequence[Pair], report_a: Mapping[str, Any], report_b: Mapping[str, Any], names: Sequence[str]
) -> list[Pair]:
    """The pairs in which a named model is; "x=y" sets model x of A beside model y of B. No name means all.

    Raises:
        IndexscopeError: There is no model of that name.
    """
    if not names:
        return list(pairs)
    ours = {model["name"]: model for model in _models(report_a, "A")}
    theirs = {model["name"]: model for model in _models(report_b, "B")}
    found: list[Pair] = []
    for name in names:
        left, equals, right = name.partition("=")
        if name in ours or name in theirs:
            found += [pair for pair in pairs if any(model and model["name"] == name for model in pair)]
        elif equals:
            found.append((_model(left, ours, name, "A"), _model(right, theirs, name, "B")))
        else:
            _model(name, {**ours, **theirs}, name, "neither side")
    if not found:
        raise IndexscopeError(f"--model {names[0]}", "is in no pair", "set two models side by side with --model x=y")
    return [pair for place, pair in enumerate(found) if pair not in found[:place]]


def _model(name: str, models: Mapping[str, Row], option: str, where: str) -> Row:
    if name in models:
        return models[name]
    close = difflib.get_close_matches(name, models, 1)
    remedy = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(models)}"
    raise IndexscopeError(f"--model {option}", f"{where} has {'a' if where[0] == 'n' else 'no'} model {name!r}", remedy)


def _models(report: Mapping[str, Any], which: str) -> list[Row]:
    for key in ("models", "metrics", "comparisons"):
        if not isinstance(report.get(key), list):
            raise IndexscopeError(f"report {which}", f"has no {key}", "give a report.json written by indexscope")
    if not report["models"]:
        raise IndexscopeError(f"report {which}", "has no model", "give the report of a study that has run")
    return list(report["models"])
