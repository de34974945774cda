"""The tables of a study's own features and metrics; what their columns mean, the study's files say."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.metrics.tables import BOTH
from indexscope.columns import Column, Table, of, table_of
from indexscope.plugins import PER_HEAD, PER_QUERY, Plugin

_KEYS = {PER_HEAD: "sample layer head bucket", PER_QUERY: "sample layer bucket"}
RESULTS = BOTH


def feature_tables(declared: Sequence[Plugin]) -> dict[str, Table]:
    """The tables of a study's own features."""
    return {
        name: table_of(key.replace(" ", ", "), key, *(_columns(one) for one in declared if one.origin == name))
        for name, key in _KEYS.items()
    }


def _columns(one: Plugin) -> tuple[Column, ...]:
    count = f"{one.name}_queries"
    queries = of(pl.Int32, "queries", **{count: f"Queries for which {one.name} is defined."})
    return (Column(one.name, pl.Float64, one.meaning, one.unit, count), *queries)
