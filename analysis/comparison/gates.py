"""Rules such as ``selection_recall.difference >= -0.02 per layer``: parsed, and held against a study's results."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import polars as pl

from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.columns import of, places, table_of
from indexscope.errors import IndexscopeError

Quantity = Literal["difference", "value", "ratio", "change"]
Bound = Literal["", "lower", "upper"]
#: Over all layers, in each of them, or in one.
Place = Literal["all", "each"] | int
ALIASES: Mapping[str, str] = {
    "recall": "selection_recall",
    "skill": "selection_skill",
    "overlap": "oracle_overlap",
    "kl": "indexer_kl",
    "entropy": "attention_entropy",
    "latency": "indexer_latency_ms",
    "flops": "indexer_flops",
    "efficiency": "efficiency_score",
}
GATES = table_of(
    "gate, candidate",
    "name candidate",
    of(pl.String, name="Name of the gate.", rule="Its rule."),
    places("candidate"),
    of(
        pl.Float64,
        "as the metric",
        value="What the rule was applied to: of a rule per layer, the worst layer's.",
    ),
    of(pl.Boolean, passed="Whether it holds."),
    of(pl.Int16, layer="Layer that the value is of; null over all layers."),
    of(pl.String, reason="Value, bound and failing layers in a sentence."),
    ordered=False,
)
GRAMMAR = (
    "<metric>[.difference|.value|.ratio|.change] <, <=, > or >= <number>[%] [on lower|on upper] "
    "[per layer|at layer <number>|at length <tokens>] [over <steps>]"
)
_RULE = re.compile(
    r"""\s*(?P<metric>[A-Za-z_][A-Za-z0-9_]*)
    (?:\.(?P<quantity>[A-Za-z_]+))?
    \s*(?P<op><=|>=|<|>)\s*
    (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<percent>%)?
    (?P<tail>(?:\s+[A-Za-z0-9.]+)*)\s*""",
    re.VERBOSE,
)
#: Failing layers that a reason lists.
_LISTED = 12
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Gate(Protocol):
    """Anything with a name and a rule, such as a gate of a study file."""

    @property
    def name(self) -> str:
        """What the gate is called."""

    @property
    def rule(self) -> str:
        """Its rule."""


@dataclass(frozen=True)
class Rule:
    """A parsed rule.

    Attributes:
        text: As it was written.
        metric: Name in the registry.
        quantity: The candidate's difference from the baseline, its own value, its ratio to the baseline, or its change
            over the last steps of its series.
        operator: <, <=, > or >=.
        threshold: The number; 2 % is 0.02.
        bound: "" for the estimate, else the lower or upper confidence bound.
        place: "all" for the number over all layers, "each" for every layer's own, or the index of one layer.
        length: Tokens of the samples that it is about, or of the beginnings of samples; None for all.
        over: Steps that a change is over.
    """

    text: str
    metric: str
    quantity: Quantity
    operator: str
    threshold: float
    bound: Bound
    place: Place = "all"
    length: int | None = None
    over: float | None = None

    @property
    def rows(self) -> pl.Expr:
        """Which rows of a table with columns metric and layer the rule is about."""
        layer = pl.col("layer")
        where = layer.is_null() if self.place == "all" else layer.is_not_null()
        return (pl.col("metric") == self.metric) & (layer == self.place if isinstance(self.place, int) else where)

    def holds(self, value: float | None) -> bool:
        """Whether a value satisfies the rule; an unknown value satisfies none."""
        if value is None or math.isnan(value):
            return False
        return _OPERATORS[self.operator](value, self.threshold)


def parse_rule(text: str, bare: Quantity = "difference") -> Rule:
    """Parse a rule as GRAMMAR has it.

    Args:
        text: The rule. ``recall`` is short for selection_recall, and so on (see ALIASES).
        bare: What a metric without a quantity means: its difference for ``diff --fail-on``.

    Raises:
        IndexscopeError: The rule does not parse, names no metric, asks for the bound of a ratio, for layers or lengths
            of a metric that has none, for a length where only whole studies are compared, or for a change where there
            is no series.

    >>> rule = parse_rule("recall < -1% per layer")
    >>> rule.metric, rule.quantity, rule.operator, rule.threshold, rule.place
    ('selection_recall', 'difference', '<', -0.01, 'each')
    """
    where = f"rule '{text}'"
    found = _RULE.fullmatch(text)
    if found is None:
        raise IndexscopeError(where, "is not a rule", f"write {GRAMMAR}, for example 'nll.difference <= 0.05'")
    try:
        metric = known_metric(found["metric"], ALIASES)
    except IndexscopeError as error:
        raise IndexscopeError(where, error.reason, error.remedy) from None
    quantity = found["quantity"] or bare
    if quantity not in ("difference", "value", "ratio", "change"):
        raise IndexscopeError(where, f"there is no .{quantity} of a metric", "use .difference, .value or .ratio")
    over, tail = _over(found["tail"].split(), where)
    if (quantity == "change") != (over is not None):
        remedy = f"write for example '{metric}.change >= -0.01 over 1000'"
        raise IndexscopeError(where, "a change is over a number of steps, and nothing else is", remedy)
    bound, place, length = _tail(tail, where)
    if quantity == "change" and bare == "difference":
        raise IndexscopeError(where, "a change is that of a series", "put the rule into the gates of a study with one")
    if quantity == "change" and length is not None:
        raise IndexscopeError(where, "a change is over all samples", "leave the length out")
    if quantity == "ratio" and bound:
        raise IndexscopeError(where, "a ratio has no confidence interval", "use .difference, or leave the bound out")
    if place != "all" and not REGISTRY[metric].per_layer:
        raise IndexscopeError(where, f"{metric} is not measured by layer", "leave the layer out")
    if length is not None and not (REGISTRY[metric].per_length or REGISTRY[metric].at_lengths):
        raise IndexscopeError(where, f"{metric} is not measured by length", "leave the length out")
    if length is not None and bare == "difference":
        raise IndexscopeError(where, "asks for one length, which reports do not hold", "make it a gate of the study")
    threshold = float(found["number"]) / (100 if found["percent"] else 1)
    if not math.isfinite(threshold):
        raise IndexscopeError(where, f"{found['number']} is out of range", "use a finite number")
    return Rule(text.strip(), metric, cast(Quantity, quantity), found["op"], threshold, bound, place, length, over)


def known_metric(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """The name of a metric in the registry.

    Args:
        name: As it was written.
        aliases: Short names that are taken too.

    Raises:
        IndexscopeError: There is no such metric.
    """
    metric = (aliases or {}).get(name, name)
    if metric not in REGISTRY:
        near = difflib.get_close_matches(metric, [*REGISTRY, *(aliases or {})], n=1)
        remedy = f"did you mean {near[0]}?" if near else "see docs/metrics.md for the metrics there are"
        raise IndexscopeError(f"metric {name}", f"there is no metric {name}", remedy)
    return metric


def _over(words: list[str], where: str) -> tuple[float | None, list[str]]:
    """The steps that a change is over, and the other words."""
    if "over" not in words:
        return None, words
    place = words.index("over")
    steps = words[place + 1 : place + 2]
    if not steps or not re.fullmatch(r"\d{1,18}(\.\d+)?", steps[0]) or float(steps[0]) <= 0:
        raise IndexscopeError(where, "has 'over' without a number of steps", "write for example 'over 1000'")
    return float(steps[0]), words[:place] + words[place + 2 :]


def _tail(words: list[str], where: str) -> tuple[Bound, Place, int | None]:
    """What follows the number: a bound and a place or a length, each at most once, in either order."""
    bound, place, length = "", cast(Place, "all"), None
    while words:
        if words[0] == "on" and len(words) > 1 and not bound:
            bound = words[1]
            if bound not in ("lower", "upper"):
                raise IndexscopeError(where, f"there is no '{bound}' bound", "write 'on lower' or 'on upper'")
            words = words[2:]
        elif words[:2] == ["at", "length"] and len(words) > 2 and place == "all" and length is None:
            if not words[2].isdecimal() or not 0 < int(words[2]) < 1 << 31:
                raise IndexscopeError(where, f"there is no length '{words[2]}'", "give it in tokens, such as 8192")
            length, words = int(words[2]), words[3:]
        elif words[:2] == ["per", "layer"] and place == "all" and length is None:
            place, words = "each", words[2:]
        elif words[:2] == ["at", "layer"] and len(words) > 2 and place == "all" and length is None:
            # A layer's index is stored in 16 bits.
            if not words[2].isdecimal() or int(words[2]) >= 1 << 15:
                raise IndexscopeError(where, f"there is no layer '{words[2]}'", "give its index, from 0")
            place, words = int(words[2]), words[3:]
        else:
            raise IndexscopeError(where, "is not a rule", f"write {GRAMMAR}, for example 'nll.difference <= 0.05'")
    return cast(Bound, bound), place, length


def parse_gate(text: str) -> Rule:
    """Parse the rule of a study's gate, in which a bare metric means the candidate's own value.

    Raises:
        IndexscopeError: As for `parse_rule`, or it asks how a metric differs from the baseline's that compares with the
            baseline by itself.

    >>> parse_gate("output_kl <= 0.01 on upper").quantity
    'value'
    """
    rule = parse_rule(text, bare="value")
    if REGISTRY[rule.metric].paired and rule.quantity not in ("value", "change"):
        remedy = f"write {rule.metric}.value"
        raise IndexscopeError(f"rule '{text}'", f"{rule.metric} compares with the baseline by itself", remedy)
    return rule


def evaluate(
    rules: Sequence[Gate],
    comparisons: pl.DataFrame,
    metrics: pl.DataFrame,
    missing: Sequence[str] = (),
    leaking: Collection[str] = (),
    dumps: Sequence[str] = (),
    lengths: pl.DataFrame | None = None,
    length_differences: pl.DataFrame | None = None,
    series: pl.DataFrame | None = None,
    lost: Mapping[str, tuple[str, float]] | None = None,
) -> pl.DataFrame:
    """Hold every rule against every candidate.

    A bare metric means the candidate's own value here. A rule whose quantity is unknown (the metric was not measured,
    or has no interval) fails: a gate that could not look is not a gate that passed. A rule per layer holds if it does
    in every layer that has the metric; its value is the worst layer's. On numbers that leak no rule holds: neither of a
    model that leaks, nor of one that is held against a baseline that does.

    Args:
        rules: The gates.
        comparisons: Result of ``compare``.
        metrics: Metrics of all models, baseline first: column ``model`` and those of an analysis' metrics. In a study
            without candidates, rules about values are held against its only model.
        missing: Candidates of the study that have no result; every rule fails for them.
        leaking: Names of models that leak (`indexscope.analysis.leaks`).
        dumps: Candidates that are selections from elsewhere. Rules about what is known of such alone are held against
            them, all other rules against the models that were run.
        lengths: Values by length, over all layers, of all models: model, metric, length, value, ci_low, ci_high. Of
            answers that is the length of samples, of what is measured of features a length that the study asks for.
        length_differences: Candidates beside the baseline by length: candidate and metric, length, baseline, value,
            difference, ci_low, ci_high.
        series: The tables series_points and series_layers together. Rules about changes are held against the newest
            member of each series, beside the last one that is older by as many steps, or the first where the series is
            shorter.
        lost: Older members of series that have no result, with their series and step. No rule is held against them; one
            about a change fails if it would be beside one of them.

    Returns:
        name, rule, candidate, value, passed, layer (the one that the value is of; null over all), reason (one line).
        With several candidates the name says which one a row is about.

    Raises:
        IndexscopeError: A rule does not parse.
    """
    parsed = [(gate.name, parse_gate(gate.rule)) for gate in rules]
    names = comparisons["candidate"].unique(maintain_order=True).to_list() if comparisons.height else []
    if not names and not missing and metrics.height:
        names = [name for name in metrics["model"].unique(maintain_order=True).to_list() if name not in dumps]
    points = pl.DataFrame() if series is None else series
    # A gate goes by the name of its series: its newest member is another with every checkpoint.
    called = dict(points.select("candidate", "series").unique(maintain_order=True).iter_rows()) if points.height else {}
    rows = []
    for name, rule in parsed:
        held = dumps if REGISTRY[rule.metric].of_dump else list(called) if rule.quantity == "change" else names
        for candidate in [*held, *missing] or [None]:
            if candidate in missing:
                value, passed, layer, reason = None, False, None, f"no result: {candidate} is missing"
            else:
                frames = (comparisons, metrics) if rule.length is None else (length_differences, lengths)
                beside = _beside(rule, candidate, points, called, lost or {})
                own = (
                    _values(rule, candidate, *frames)
                    if rule.over is None
                    else _changes(rule, candidate, points, beside)
                )
                value, passed, layer, reason = _judged(rule, own, "" if beside is None else f" since {beside:.15g}")
                if gone := _lost_at(called.get(candidate), beside, lost or {}):
                    reason = f"no result: {gone}, beside which it is held, is missing"
                if leak := _leak(rule, candidate, metrics, leaking):
                    passed, reason = False, leak
            label = f"{name} ({called.get(candidate, candidate)})" if len(held) + len(missing) > 1 else name
            rows.append((label, rule.text, candidate, value, passed, layer, reason))
    return pl.DataFrame(rows, schema=GATES.schema, orient="row")


def _leak(rule: Rule, candidate: str | None, metrics: pl.DataFrame, leaking: Collection[str]) -> str:
    """Why a rule cannot hold of numbers that leak; empty where they do not."""
    if candidate in leaking:
        return f"{LEAKS}: {candidate} failed the causality audit, so that none of its numbers counts"
    metric = REGISTRY[rule.metric]
    compares = rule.quantity != "value" or metric.paired or metric.of_dump
    if compares and metrics.height and metrics["model"].first() in leaking:
        return f"{LEAKS}: the baseline failed the causality audit, so that nothing is compared with it"
    return ""


Values = list[tuple[int | None, float | None]]


def _values(
    rule: Rule, candidate: str | None, comparisons: pl.DataFrame | None, metrics: pl.DataFrame | None
) -> Values:
    """What the rule is about, by layer; layer None over all."""
    frame, key = (metrics, "model") if rule.quantity == "value" else (comparisons, "candidate")
    if frame is None or frame.is_empty() or candidate is None:
        return []
    if rule.length is not None:
        frame = frame.filter(pl.col("length") == rule.length).with_columns(layer=pl.lit(None, pl.Int16))
    rows = frame.filter((pl.col(key) == candidate) & rule.rows).sort("layer", nulls_last=False)
    if rule.quantity == "ratio":
        pairs = rows.select("layer", "value", "baseline").iter_rows()
        return [(layer, None if value is None or not base else value / base) for layer, value, base in pairs]
    column = {"lower": "ci_low", "upper": "ci_high"}.get(rule.bound, rule.quantity)
    return list(rows.select("layer", column).iter_rows())


def _beside(
    rule: Rule,
    candidate: str | None,
    points: pl.DataFrame,
    called: Mapping[str | None, str],
    lost: Mapping[str, tuple[str, float]],
) -> float | None:
    """Step of the older member that a change is since, whether it has a result or not; None without one."""
    if rule.over is None or candidate is None or points.is_empty():
        return None
    steps = points.filter((pl.col("candidate") == candidate) & rule.rows)["step"].unique().sort().to_list()
    gone = [step for series, step in lost.values() if series == called.get(candidate)]
    before = sorted({*steps[:-1], *(step for step in gone if steps and step < steps[-1])})
    return next((step for step in reversed(before) if step <= steps[-1] - rule.over), next(iter(before), None))


def _changes(rule: Rule, candidate: str | None, points: pl.DataFrame, beside: float | None) -> Values:
    """The newest member less the one at a step, by layer."""
    if beside is None:
        return []
    own = points.filter((pl.col("candidate") == candidate) & rule.rows & (pl.col("step") == beside))
    column = {"lower": "since_low", "upper": "since_high"}.get(rule.bound, "since")
    return list(own.sort("layer", nulls_last=False).select("layer", column).iter_rows())


def _lost_at(series: str | None, step: float | None, lost: Mapping[str, tuple[str, float]]) -> str:
    """Name of the member without a result at a step of a series; "" where there is none."""
    return next((name for name, place in lost.items() if place == (series, step)), "")


def _judged(rule: Rule, values: Values, since: str = "") -> tuple[float | None, bool, int | None, str]:
    """Value, whether it holds, the layer, and why."""
    wanted = f"{rule.operator} {rule.threshold:.6g}"
    what = f"{rule.quantity} of {rule.metric}{since}" + (f", {rule.bound} bound," if rule.bound else "")
    place = f" in layer {rule.place}" if isinstance(rule.place, int) else ""
    place += f" at length {rule.length}" if rule.length is not None else ""
    if not values:
        return None, False, None, f"there is no {what.rstrip(',')}{place}"
    unknown = [layer for layer, value in values if value is None or math.isnan(value)]
    if unknown:
        inside = "" if unknown[0] is None else f" in layer {unknown[0]}"
        return None, False, unknown[0], f"there is no {what.rstrip(',')}{inside}"
    known = [(layer, value) for layer, value in values if value is not None]
    pick = min if rule.operator in (">", ">=") else max
    layer, worst = pick(known, key=lambda pair: pair[1])
    failing = [layer for layer, value in known if not rule.holds(value)]
    verb = "needs to be" if failing else "is"
    if rule.place != "each":
        return worst, not failing, layer, f"{what}{place} is {worst:.6g}; it {verb} {wanted}"
    told = f"{what} is {worst:.6g} in layer {layer}, the worst of {len(known)}; "
    if not failing:
        return worst, True, layer, f"{told}every layer is {wanted}"
    listed = ", ".join(map(str, failing[:_LISTED])) + (", …" if len(failing) > _LISTED else "")
    layers = "layer fails" if len(failing) == 1 else "layers fail"
    return worst, False, layer, f"{told}it needs to be {wanted}; {len(failing)} {layers}: {listed}"
