"""Models that leak: the causality audit found that they see the future, so that nothing can be concluded from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import polars as pl

#: The word for it, wherever a number, a name or a verdict is marked.
LEAKS: Final = "leaks"


def leaks(audit: pl.DataFrame) -> bool:
    """Whether a model leaks, by its audit (`indexscope.analysis.capture.audit`)."""
    return bool(audit["passed"].eq_missing(False).any())


def leaking(causality: pl.DataFrame) -> frozenset[str]:
    """Names of the models that leak.

    Args:
        causality: The audits: columns model and passed.
    """
    return frozenset(causality.filter(pl.col("passed").eq_missing(False))["model"])


def leaking_in(report: Mapping[str, Any]) -> frozenset[str]:
    """Names of the models that leak by the content of a report.json."""
    rows = report.get("causality") or ()
    return frozenset(str(row["model"]) for row in rows if row.get("passed") is False)


def marked(name: str, leaks: bool) -> str:
    """What a model is called where its numbers are shown.

    >>> marked("light", True), marked("light", False)
    ('light (leaks)', 'light')
    """
    return f"{name} ({LEAKS})" if leaks else name


def without_verdicts(comparisons: pl.DataFrame, baseline: str | None, leaking: Collection[str]) -> pl.DataFrame:
    """Comparison rows of which those with a leaking model have the verdict "leaks" and are judged in no other way.

    Args:
        comparisons: candidate, better, verdict, no_worse and corrected, and any other columns.
        baseline: Name of the baseline.
        leaking: Names of the models that leak.
    """
    void = pl.lit(baseline in leaking) | pl.col("candidate").is_in(list(leaking))
    judged = ("better", "no_worse", "corrected")
    return comparisons.with_columns(
        pl.when(void).then(pl.lit(LEAKS)).otherwise(pl.col("verdict")).alias("verdict"),
        *(pl.when(void).then(None).otherwise(pl.col(name)).alias(name) for name in judged),
    )
