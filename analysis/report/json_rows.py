"""What the rows of report.json hold, part by part, for what writes it and for its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl

from indexscope.analysis.comparison.gates import GATES
from indexscope.analysis.comparison.tables import COMPARISONS, LENGTH_COMPARISONS
from indexscope.analysis.leaks import LEAKS
from indexscope.analysis.metrics.tables import METRICS
from indexscope.analysis.report.inputs import CAUSALITY
from indexscope.analysis.report.ranking import RANKING
from indexscope.columns import Column, names, of

MODEL = of(pl.String, model="Name of the model in the study.")
LEAKING = of(pl.Boolean, **{LEAKS: "Whether the model failed the causality audit, so that the numbers cannot be used."})
WARNINGS = of(
    pl.String,
    kind="missing, audit, nothing, little or small.",
    model="Name of the model.",
    text="What is wrong, and what mends it.",
)
DEFINITIONS = of(
    pl.String,
    name="Name of the metric.",
    unit="Its unit.",
    better="higher, lower or neither.",
    kind="Where its numbers come from: sample, count or timing.",
    family="Title of its family.",
    meaning="What it says.",
    formula="How it is computed.",
)


def _metrics() -> tuple[Column, ...]:
    """The columns of metrics in the order of the keys, with the metric under "name"."""
    found = {column.name: column for column in METRICS.columns}
    renamed = replace(found.pop("metric"), name="name")
    order = ("layer", "value", "unit", "ci_low", "ci_high", "n")
    return (*MODEL, renamed, *(found[name] for name in order), *LEAKING)


#: The parts that are rows, with the columns of each.
ROWS: Mapping[str, tuple[Column, ...]] = {
    "warnings": WARNINGS,
    "definitions": DEFINITIONS,
    "ranking": RANKING.columns,
    "metrics": _metrics(),
    "comparisons": COMPARISONS.columns,
    "by_length": LENGTH_COMPARISONS.columns,
    "gates": GATES.columns,
    "causality": CAUSALITY.columns,
}


def keys_of(part: str) -> tuple[str, ...]:
    """The keys of a row of a part."""
    return names(ROWS[part])


def says_whose(keys: Sequence[str]) -> bool:
    """Whether rows of a panel's table say by themselves which model they are of; else they get a key model."""
    return bool({"model", "candidate"} & set(keys))
