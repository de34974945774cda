"""Which models no other model beats in cost and in quality at once."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.statistics.pareto import pareto

#: Of indexer and attention together, so that a smaller k and shared layers count as well as a cheaper indexer.
COST = "relative_cost"


def model_front(metrics: pl.DataFrame, models: Sequence[str], quality: str) -> dict[str, bool]:
    """Whether each model is on the Pareto front of relative cost and a quality, by the estimates over all layers.

    Args:
        metrics: Metrics of all models (columns model, metric, layer, value).
        models: Names of those that compete.
        quality: nll (lower is better) or a metric of which higher is better.

    Returns:
        Name to membership, of the models that have both.
    """
    rows = metrics.filter(pl.col("layer").is_null() & pl.col("value").is_finite())
    values = {(model, metric): value for model, metric, value in rows.select("model", "metric", "value").iter_rows()}
    names = [name for name in models if (name, COST) in values and (name, quality) in values]
    sign = -1.0 if quality == "nll" else 1.0
    kept = pareto([values[name, COST] for name in names], [sign * values[name, quality] for name in names])
    return dict(zip(names, kept.tolist(), strict=True))
