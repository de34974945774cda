"""The tables of a study's own features and metrics; what their columns mean, the study's files say."""

from __future__ import annotations

from collections.abc import Sequence

from indexscope.metrics import PER_HEAD, PER_QUERY, Declared
from storage.columns import Column, Table, of, table
from storage.result_tables import RESULTS

_KEYS = {PER_HEAD: "sample layer head bucket", PER_QUERY: "sample layer bucket"}

CUSTOM: dict[tuple[str, str], Table] = {
    ("analyses/custom", "metrics"): RESULTS["analyses/distribution", "metrics"],
    ("analyses/custom", "per_sample"): RESULTS["analyses/distribution", "per_sample"],
}


def feature_tables(declared: Sequence[Declared]) -> dict[str, Table]:
    """What the columns of a study's own features mean, by table."""
    return {
        name: table(key.replace(" ", ", "), key, *(_columns(one) for one in declared if one.origin == name))
        for name, key in _KEYS.items()
    }


def _columns(one: Declared) -> tuple[Column, ...]:
    count = f"{one.name}_queries"
    queries = of("queries", **{count: f"Queries for which {one.name} is defined."})
    return (Column(one.name, one.meaning, one.unit, count), *queries)
