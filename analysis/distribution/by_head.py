"""Attention metrics by head, over all samples."""

from __future__ import annotations

import numpy as np
import polars as pl

from analysis.metrics.metric import Derived
from analysis.metrics.registry import REGISTRY
from analysis.metrics.summary import finite_or_null
from analysis.metrics.sums import Features, grids, ratio_metrics
from analysis.statistics import ratio

BY_HEAD = {"metric": pl.String, "layer": pl.Int16, "head": pl.Int16, "value": pl.Float64}


def by_head(features: Features) -> pl.DataFrame:
    """Attention metrics of every layer and head: metric, layer, head, value; null where nothing was measured."""
    frame = features.get("attention")
    if frame is None or frame.is_empty():
        return pl.DataFrame(schema=BY_HEAD)
    found = grids(frame, ratio_metrics(features, "attention"), ("layer", "head"))
    values = {name: ratio(grid.numerator, grid.denominator) for name, grid in found.items()}
    for name, metric in REGISTRY.items():
        if isinstance(metric.rule, Derived) and set(metric.bases) <= set(values):
            values[name] = metric.rule.function(*(values[base] for base in metric.bases))
    layers, heads = next(iter(found.values())).axes
    exists = np.zeros((len(layers), len(heads)), dtype=bool)
    pairs = frame.select("layer", "head").unique()
    exists[np.searchsorted(layers, pairs["layer"]), np.searchsorted(heads, pairs["head"])] = True
    rows, columns = np.nonzero(exists)
    frames = [
        pl.DataFrame(
            {
                "metric": [name] * len(rows),
                "layer": layers[rows],
                "head": heads[columns],
                "value": value[rows, columns],
            },
            schema_overrides=BY_HEAD,
        )
        for name, value in values.items()
    ]
    return pl.concat(frames).with_columns(finite_or_null("value"))
