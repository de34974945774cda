"""Rules that fail a build over the differences between two reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from indexscope.analysis.comparison.gates import Rule, parse_rule
from indexscope.errors import IndexscopeError


@dataclass(frozen=True)
class Outcome:
    """A rule held against one pair of models.

    Attributes:
        rule: The rule as it was written.
        row: The row of the differences that it looked at.
        value: The number that it was held against; None where the pair has none.
        holds: Whether it holds, and so fails the build.
        leaks: Whether a model of the pair leaks: nothing can be concluded from the number, which fails the build too.
    """

    rule: str
    row: Mapping[str, Any]
    value: float | None
    holds: bool
    leaks: bool = False

    @property
    def fails(self) -> bool:
        """Whether it fails the build."""
        return self.holds or self.leaks


def check_rules(rules: Sequence[str], frame: pl.DataFrame) -> list[Outcome]:
    """Every rule against every pair of models that has its metric.

    Raises:
        IndexscopeError: A rule does not parse, or cannot be looked at; see `fail_on`.
    """
    return [outcome for rule in [parse_rule(text) for text in rules] for outcome in _outcomes(rule, frame)]


def fail_on(rule: str | Rule, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that satisfy a rule such as ``recall < -0.01``, over all layers or in those it names: any means failure.

    Those of a model that leaks are among them, since nothing can be concluded from them. A bare metric, like
    ``.difference``, is the difference b - a; ``.value`` is b, and ``.ratio`` is b / a.

    Raises:
        IndexscopeError: The rule does not parse, or no pair of models has a value for it: what cannot be looked at must
            not pass in silence.
    """
    outcomes = _outcomes(parse_rule(rule) if isinstance(rule, str) else rule, frame)
    return pl.DataFrame([outcome.row for outcome in outcomes if outcome.fails], schema=frame.schema)


def _outcomes(rule: Rule, frame: pl.DataFrame) -> list[Outcome]:
    rows = frame.filter(rule.rows & (pl.col("status") == "both"))
    values = [(row, _quantity(rule, row)) for row in rows.iter_rows(named=True)]
    if not any(value is not None for _, value in values):
        what = f"{rule.quantity}{' (' + rule.bound + ' bound)' if rule.bound else ''} of {rule.metric}"
        raise IndexscopeError(
            f"rule '{rule.text}'", f"no pair of models has a {what}", "use a metric that both sides hold"
        )
    return [Outcome(rule.text, row, value, rule.holds(value), row["leaks"] is not None) for row, value in values]


def _quantity(rule: Rule, row: Mapping[str, Any]) -> float | None:
    if rule.quantity == "ratio":
        return row["b"] / row["a"] if row["a"] and row["b"] is not None else None
    if rule.quantity == "value" and rule.bound:
        return None  # the frame holds the bounds of the difference
    column = {"lower": "ci_low", "upper": "ci_high"}.get(rule.bound, "b" if rule.quantity == "value" else "difference")
    value: float | None = row[column]
    return value
