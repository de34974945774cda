"""Whether two models select the same share of the keys: a larger k raises recall by itself."""

from __future__ import annotations

from typing import Final

import polars as pl

from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.statistics.margins import ROUNDING

#: The verdict on what only compares at an equal k, where k differs.
OTHER_K: Final = "other k"
#: The metric that says what share of the keys is selected.
SHARE: Final = "random_recall"


def at_other_k(rows: pl.DataFrame) -> pl.Series:
    """Which comparison rows are of a metric that only compares at an equal k, where the models' k differ.

    Args:
        rows: candidate, metric, layer, baseline and difference.
    """
    apart = pl.col("difference").abs() > ROUNDING * pl.col("baseline").abs()
    cells = rows.filter((pl.col("metric") == SHARE) & apart).select("candidate", "layer").unique()
    named = pl.col("metric").is_in([name for name, metric in REGISTRY.items() if metric.at_equal_k])
    marked = rows.select("candidate", "layer", named=named).join(
        cells.with_columns(other=pl.lit(value=True)),
        on=["candidate", "layer"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return marked.select(pl.col("named") & pl.col("other").fill_null(value=False)).to_series()
