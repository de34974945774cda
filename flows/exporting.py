"""What an export holds: every column of the feature tables that is a number, with its unit and its weight."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from indexscope import IndexscopeError
from indexscope.storage.export import Measure

#: Columns that no metric is the plain mean of.
OTHERS = (
    Measure("heads", "vertical_mass", "share", "queries"),
    Measure("heads", "slash_mass", "share", "queries"),
    Measure("heads", "slash_distance", "tokens", "queries"),
    Measure("heads", "block_mass", "share", "queries"),
    Measure("heads", "block_size", "keys", "queries"),
    Measure("positions", "queries", "queries"),
    Measure("positions", "selections", "keys"),
    Measure("positions", "expected_selections", "keys"),
    Measure("positions", "attention_mass", "share, summed over queries"),
    Measure("positions", "attention_expected", "share, summed over queries"),
    Measure("scores", "mean", "score", "count"),
    Measure("scores", "minimum", "score"),
    Measure("scores", "maximum", "score"),
    Measure("scores", "zeros", "keys"),
)


def measures() -> tuple[Measure, ...]:
    """Everything that can be exported: table by table, and in the order of the metrics' documentation."""
    from indexscope.analysis.metrics import REGISTRY

    means = [
        Measure(metric.table, metric.column, metric.unit, metric.weight)
        for metric in REGISTRY.values()
        if metric.name == metric.column
    ]
    return tuple(sorted([*means, *OTHERS], key=lambda measure: measure.table))


def chosen(tables: Collection[str], metrics: Collection[str], own: Collection[Measure] = ()) -> tuple[Measure, ...]:
    """What is left of `measures` by table and by metric; an empty choice is all.

    Args:
        tables: Names of tables.
        metrics: Names of metrics.
        own: Columns of the study's own features, which can be chosen like the others.

    Raises:
        IndexscopeError: There is no such table or metric.
    """
    known = (*measures(), *own)
    _check("--table", tables, {measure.table for measure in known})
    _check("--metric", metrics, {measure.column for measure in known})
    return tuple(
        measure
        for measure in known
        if (not tables or measure.table in tables) and (not metrics or measure.column in metrics)
    )


def _check(option: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"choose among {', '.join(sorted(known))}"
            raise IndexscopeError(f"{option} {name}", "is not exported", remedy)
