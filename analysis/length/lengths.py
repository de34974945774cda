"""Metrics at context lengths 2^m - 1: cumulative sums over buckets are what a study of that length would measure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.length.extent import Extent
from indexscope.analysis.length.resampled import Buckets
from indexscope.analysis.length.tables import LENGTHS
from indexscope.analysis.metrics.metric import Derived
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.sums import Cell
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics import Array, interval, ratio

UP_TO, AT = "up to", "at"
Estimates = tuple[Array, NDArray[np.int64]]


def lengths(found: Mapping[Cell, Buckets], size: Extent, settings: BootstrapSettings) -> pl.DataFrame:
    """Metrics over all queries before a length ("up to") and over its last power of two alone ("at").

    Returns:
        metric, length, layer (null for all), kind, value, ci_low, ci_high, n (samples with weight).
    """
    estimates = {
        (UP_TO, cell): (ratio(np.cumsum(own.top, 1), np.cumsum(own.bottom, 1)), own.up_to)
        for cell, own in found.items()
    }
    estimates |= {(AT, cell): (ratio(own.top, own.bottom), own.at) for cell, own in found.items()}
    estimates |= _derived(estimates)
    frames = [LENGTHS.empty()]
    order = {name: place for place, name in enumerate(REGISTRY)}
    for (kind, (metric, layer)), (values, n) in sorted(
        estimates.items(), key=lambda item: (order[item[0][1][0]], _place(item[0][1][1]), item[0][0] == AT)
    ):
        low, high = interval(values[0], values[1:], n, settings.confidence)
        columns = {
            "metric": [metric] * size.buckets,
            "length": [size.length(bucket) for bucket in range(size.buckets)],
            "layer": [layer] * size.buckets,
            "kind": [kind] * size.buckets,
            **{"value": values[0], "ci_low": low, "ci_high": high, "n": n},
        }
        frames.append(pl.DataFrame(columns, schema_overrides=LENGTHS.schema, strict=False))
    rows = pl.concat(frames).with_columns(finite_or_null("value", "ci_low", "ci_high"))
    return rows.filter(pl.col("n") > 0)


def _place(layer: int | None) -> int:
    return -1 if layer is None else layer


def _derived(estimates: Mapping[tuple[str, Cell], Estimates]) -> dict[tuple[str, Cell], Estimates]:
    """Metrics that are functions of others, applied to estimates and resamples alike."""
    found: dict[tuple[str, Cell], Estimates] = {}
    places = {(kind, layer) for kind, (_, layer) in estimates}
    for name, metric in REGISTRY.items():
        if not isinstance(metric.rule, Derived):
            continue
        for kind, layer in places:
            bases = [estimates.get((kind, (base, layer))) for base in metric.rule.bases]
            known = [base for base in bases if base is not None]
            if len(known) == len(bases):
                values = metric.rule.function(*(value for value, _ in known))
                found[kind, (name, layer)] = values, np.min([n for _, n in known], axis=0)
    return found
