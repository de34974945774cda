"""Rules such as ``selection_recall.difference >= -0.02``: parsed, and held against a study's results."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import polars as pl

from analysis.metrics.registry import REGISTRY
from indexscope.errors import IndexscopeError

Quantity = Literal["difference", "value", "ratio"]
Bound = Literal["", "lower", "upper"]
ALIASES: Mapping[str, str] = {
    "recall": "selection_recall",
    "overlap": "oracle_overlap",
    "kl": "indexer_kl",
    "entropy": "attention_entropy",
    "latency": "indexer_latency_ms",
    "flops": "indexer_flops",
    "efficiency": "efficiency_score",
}
GATES = {
    "name": pl.String,
    "rule": pl.String,
    "candidate": pl.String,
    "value": pl.Float64,
    "passed": pl.Boolean,
}
GRAMMAR = "<metric>[.difference|.value|.ratio] <, <=, > or >= <number>[%] [on lower|on upper]"
_RULE = re.compile(
    r"""\s*(?P<metric>[A-Za-z_][A-Za-z0-9_]*)
    (?:\.(?P<quantity>[A-Za-z_]+))?
    \s*(?P<op><=|>=|<|>)\s*
    (?P<number>[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<percent>%)?
    (?:\s+on\s+(?P<bound>[A-Za-z]+))?\s*""",
    re.VERBOSE,
)
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
        quantity: The candidate's difference from the baseline, its own value, or its ratio to the baseline.
        operator: <, <=, > or >=.
        threshold: The number; 2 % is 0.02.
        bound: "" for the estimate, else the lower or upper confidence bound.
    """

    text: str
    metric: str
    quantity: Quantity
    operator: str
    threshold: float
    bound: Bound

    def holds(self, value: float | None) -> bool:
        """Whether a value satisfies the rule; an unknown value satisfies none."""
        if value is None or math.isnan(value):
            return False
        return _OPERATORS[self.operator](value, self.threshold)


def parse_rule(text: str, bare: Quantity = "difference") -> Rule:
    """Parse ``<metric>[.difference|.value|.ratio] <op> <number>[%] [on lower|on upper]``.

    Args:
        text: The rule. ``recall`` is short for selection_recall, and so on (see ALIASES).
        bare: What a metric without a quantity means: its difference for ``diff --fail-on``.

    Raises:
        IndexscopeError: The rule does not parse, names no metric, or asks for the bound of a ratio.

    >>> rule = parse_rule("recall < -1%")
    >>> rule.metric, rule.quantity, rule.operator, rule.threshold
    ('selection_recall', 'difference', '<', -0.01)
    """
    where = f"rule '{text}'"
    found = _RULE.fullmatch(text)
    if found is None:
        raise IndexscopeError(where, "is not a rule", f"write {GRAMMAR}, for example 'nll.difference <= 0.05'")
    metric = ALIASES.get(found["metric"], found["metric"])
    if metric not in REGISTRY:
        near = difflib.get_close_matches(metric, [*REGISTRY, *ALIASES], n=1)
        remedy = f"did you mean {near[0]}?" if near else "see docs/metrics.md for the metrics there are"
        raise IndexscopeError(where, f"there is no metric {found['metric']}", remedy)
    quantity, bound = found["quantity"] or bare, found["bound"] or ""
    if quantity not in ("difference", "value", "ratio"):
        raise IndexscopeError(where, f"there is no .{quantity} of a metric", "use .difference, .value or .ratio")
    if bound not in ("", "lower", "upper"):
        raise IndexscopeError(where, f"there is no '{bound}' bound", "write 'on lower' or 'on upper'")
    if quantity == "ratio" and bound:
        raise IndexscopeError(where, "a ratio has no confidence interval", "use .difference, or leave the bound out")
    threshold = float(found["number"]) / (100 if found["percent"] else 1)
    if not math.isfinite(threshold):
        raise IndexscopeError(where, f"{found['number']} is out of range", "use a finite number")
    return Rule(text.strip(), metric, cast(Quantity, quantity), found["op"], threshold, cast(Bound, bound))


def parse_gate(text: str) -> Rule:
    """Parse the rule of a study's gate, in which a bare metric means the candidate's own value.

    Raises:
        IndexscopeError: As for `parse_rule`, or it asks how a metric differs from the baseline's that compares with the
            baseline by itself.

    >>> parse_gate("output_kl <= 0.01 on upper").quantity
    'value'
    """
    rule = parse_rule(text, bare="value")
    if REGISTRY[rule.metric].paired and rule.quantity != "value":
        remedy = f"write {rule.metric}.value"
        raise IndexscopeError(f"rule '{text}'", f"{rule.metric} compares with the baseline by itself", remedy)
    return rule


def evaluate(rules: Sequence[Gate], comparisons: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """Hold every rule against every candidate, over all layers.

    A bare metric means the candidate's own value here. A rule whose quantity is unknown (the metric was not measured,
    or has no interval) fails: a gate that could not look is not a gate that passed.

    Args:
        rules: The gates.
        comparisons: Result of ``compare``.
        metrics: Metrics of all models: column ``model`` and those of an analysis' metrics. In a study without
            candidates, rules about values are held against its only model.

    Returns:
        name, rule, candidate, value, passed. With several candidates the name says which one a row is about.

    Raises:
        IndexscopeError: A rule does not parse.
    """
    parsed = [(gate.name, parse_gate(gate.rule)) for gate in rules]
    names = comparisons["candidate"].unique(maintain_order=True).to_list() if comparisons.height else []
    if not names and metrics.height:
        names = metrics["model"].unique(maintain_order=True).to_list()
    rows = []
    for name, rule in parsed:
        for candidate in names or [None]:
            value = _value(rule, candidate, comparisons, metrics)
            label = f"{name} ({candidate})" if len(names) > 1 else name
            rows.append((label, rule.text, candidate, value, rule.holds(value)))
    return pl.DataFrame(rows, schema=GATES, orient="row")


def _value(rule: Rule, candidate: str | None, comparisons: pl.DataFrame, metrics: pl.DataFrame) -> float | None:
    if rule.quantity == "value":
        column = {"": "value", "lower": "ci_low", "upper": "ci_high"}[rule.bound]
        return _cell(metrics, "model", candidate, rule.metric, column)
    if rule.quantity == "difference":
        column = {"": "difference", "lower": "ci_low", "upper": "ci_high"}[rule.bound]
        return _cell(comparisons, "candidate", candidate, rule.metric, column)
    value, baseline = (_cell(comparisons, "candidate", candidate, rule.metric, name) for name in ("value", "baseline"))
    return None if value is None or not baseline else value / baseline


def _cell(frame: pl.DataFrame, key: str, name: str | None, metric: str, column: str) -> float | None:
    if frame.is_empty() or name is None:
        return None
    rows = frame.filter((pl.col(key) == name) & (pl.col("metric") == metric) & pl.col("layer").is_null())
    return None if rows.is_empty() else cast("float | None", rows[column][0])
