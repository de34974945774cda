"""Metrics by power-of-two bucket of the query's position: entropy and sparsity grow with n_t, so they must be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from analysis.metrics.metric import Derived
from analysis.metrics.registry import REGISTRY
from analysis.metrics.summary import finite_or_null
from analysis.metrics.sums import Features, grids, ratio_metrics
from analysis.statistics import Array, ratio

BY_BUCKET = {"metric": pl.String, "layer": pl.Int16, "bucket": pl.Int8, "value": pl.Float64, "n": pl.Int32}


def by_bucket(features: Features, tables: Sequence[str]) -> pl.DataFrame:
    """Metrics by bucket and layer (null for all layers): metric, layer, bucket, value, n (samples with weight)."""
    frames = [pl.DataFrame(schema=BY_BUCKET)]
    for table in tables:
        frame, rules = features.get(table), ratio_metrics(features, table)
        if frame is None or frame.is_empty() or not rules:
            continue
        layered = "layer" in frame.columns
        found = grids(frame, rules, ("sample", "layer", "bucket") if layered else ("sample", "bucket"))
        values: dict[str, Array] = {}
        counts: dict[str, Array] = {}
        for name, grid in found.items():
            shape = (grid.numerator.shape[0], -1, grid.numerator.shape[-1])
            top, bottom = with_overall(grid.numerator.reshape(shape)), with_overall(grid.denominator.reshape(shape))
            values[name] = ratio(top.sum(axis=0), bottom.sum(axis=0))
            counts[name] = (bottom > 0).sum(axis=0)
        for name, metric in REGISTRY.items():
            if isinstance(metric.rule, Derived) and set(metric.bases) <= set(values):
                values[name] = metric.rule.function(*(values[base] for base in metric.bases))
                counts[name] = np.min([counts[base] for base in metric.bases], axis=0)
        axes = next(iter(found.values())).axes
        layers = [None, *(axes[1].tolist() if layered else [])]
        frames += [_rows(name, layers, axes[-1].tolist(), values[name], counts[name]) for name in values]
    return pl.concat(frames)


def with_overall(sums: Array) -> Array:
    """Sums [samples, layers, buckets] with their total over layers put first: [samples, 1 + layers, buckets]."""
    return np.concatenate([sums.sum(axis=1, keepdims=True), sums], axis=1)


def _rows(
    metric: str, layers: Sequence[int | None], buckets: Sequence[int], values: Array, counts: Array
) -> pl.DataFrame:
    rows = len(layers) * len(buckets)
    columns = {
        "metric": [metric] * rows,
        "layer": [layer for layer in layers for _ in buckets],
        "bucket": list(buckets) * len(layers),
        # A table without layers has its one "layer" twice: as the total and as itself.
        "value": values[: len(layers)].ravel(),
        "n": counts[: len(layers)].ravel(),
    }
    frame = pl.DataFrame(columns, schema_overrides=BY_BUCKET, strict=False)
    return frame.with_columns(finite_or_null("value")).filter(pl.col("n") > 0)
