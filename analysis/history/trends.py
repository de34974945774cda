"""One number of a study over its runs, each beside the run before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from indexscope.analysis.comparison.gates import parse_rule
from indexscope.analysis.diff.definitions import defined
from indexscope.analysis.diff.rows import between
from indexscope.analysis.history.numbers import COMPARISON, DEFINITION, METRIC
from indexscope.analysis.history.timeline import Stretch, models_of
from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.metrics.headline import FOLLOWED
from indexscope.errors import IndexscopeError

DIFFERENCE = ".difference"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """A number of one model in one stretch.

    Attributes:
        stretch: Where it stands.
        value: The number.
        ci_low: Lower bound of its interval; None if it has none.
        ci_high: Upper bound.
        unit: Its unit.
        n: Samples behind it.
        step: Against the last stretch that has this number: difference, ci_low, ci_high, n and better, as in `diff`,
            and leaks: whether either of the two does, so that nothing is judged. None for the first.
        leaks: Whether the model leaks there, or for a difference its baseline.
    """

    stretch: Stretch
    value: float
    ci_low: float | None
    ci_high: float | None
    unit: str
    n: int | None
    step: Row | None
    leaks: bool = False


def known_metrics(history: Sequence[Stretch]) -> AbstractContextManager[None]:
    """Have the registry know the metrics of a history that are not built in, for the length of a block."""
    numbers = [stretch.run.numbers for stretch in history if stretch.run.numbers is not None]
    rows = [dict(zip(DEFINITION, row, strict=True)) for one in numbers for row in one.get("definitions", ())]
    return defined({"definitions": rows, "metrics": []})


def trend(history: Sequence[Stretch], model: str, metric: str) -> list[Point]:
    """A metric of a model over the stretches that have it.

    Args:
        history: The stretches in order.
        model: Name of the model. A baseline is followed by its role, so it may be renamed; the newest member of a
            series by the series, whose name will do as well.
        metric: A metric, or ``<metric>.difference`` for the paired difference of a candidate from the baseline.

    Each step is the difference from the stretch before, with an interval as if the two were independent
    (`indexscope.analysis.diff.rows.between`): over the same samples it is too wide rather than too narrow.
    """
    points: list[Point] = []
    last: Row | None = None
    for stretch in history:
        called = _called(stretch, model, history)
        row = _row(stretch, called, metric)
        if row is None or row["value"] is None:
            continue
        leaks = _leaks(stretch, called, metric)
        step = None if last is None else dict(between(last, row))
        if step is not None and (leaks or points[-1].leaks):
            step |= {"better": None, LEAKS: True}
        bounds = row["ci_low"], row["ci_high"]
        points.append(Point(stretch, row["value"], *bounds, row["unit"] or "", row["n"], step, leaks))
        last = row
    return points


def main_models(history: Sequence[Stretch]) -> list[str]:
    """The models that a history is about: the candidates of the newest stretch with numbers, else its only model.

    A candidate that has no result there counts all the same, since earlier stretches may have one.
    """
    for stretch in reversed(history):
        if roles := models_of(stretch):
            candidates = [name for name, role in roles.items() if role == "candidate"]
            return [*candidates, *stretch.missing] or list(roles)
    return []


def default_metrics(history: Sequence[Stretch], limit: int = 6) -> list[str]:
    """The headline metrics that any stretch has, then those that the newest gates are about."""
    numbers = [stretch.run.numbers for stretch in history if stretch.run.numbers is not None]
    if not numbers:
        return []
    measured = {row[METRIC.index("name")] for one in numbers for row in one["metrics"]}
    found = [next((name for name in names if name in measured), None) for names in FOLLOWED]
    metrics = [name for name in found if name is not None]
    for row in numbers[-1]["gates"]:
        try:
            rule = parse_rule(row[1], bare="value")
        except IndexscopeError:
            continue  # a rule of another version
        metrics.append(rule.metric + (DIFFERENCE if rule.quantity == "difference" else ""))
    return list(dict.fromkeys(metrics))[:limit]


def _called(stretch: Stretch, model: str, history: Sequence[Stretch]) -> str:
    """What a stretch calls a model."""
    roles = models_of(stretch)
    if model in roles:
        return model
    series = next((other.series[model] for other in history if model in other.series), model)
    if newest := next((name for name, own in stretch.series.items() if own == series), ""):
        return newest
    was_baseline = any(models_of(other).get(model) == "baseline" for other in history)
    return next((name for name, role in roles.items() if role == "baseline" and was_baseline), model)


def _leaks(stretch: Stretch, model: str, metric: str) -> bool:
    held = {model}
    if metric.endswith(DIFFERENCE):
        held |= {name for name, role in models_of(stretch).items() if role == "baseline"}
    return not held.isdisjoint(stretch.leaks)


def _row(stretch: Stretch, model: str, metric: str) -> Row | None:
    if stretch.run.numbers is None:
        return None
    if metric.endswith(DIFFERENCE):
        wanted = (model, metric.removesuffix(DIFFERENCE))
        for values in stretch.run.numbers["comparisons"]:
            if (values[0], values[1]) == wanted:
                row = dict(zip(COMPARISON, values, strict=True))
                return {**row, "name": row["metric"], "value": row["difference"]}
        return None
    for values in stretch.run.numbers["metrics"]:
        if (values[0], values[1]) == (model, metric):
            return dict(zip(METRIC, values, strict=True))
    return None
