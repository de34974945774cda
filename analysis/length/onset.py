"""From which context length on the selection loses, compared with where it first leaves something out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.length.extent import Extent
from indexscope.analysis.length.resampled import FOLLOWED, Buckets
from indexscope.analysis.length.tables import ONSET
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.metrics.sums import Cell
from indexscope.analysis.settings import BootstrapSettings
from indexscope.analysis.statistics import interval, ratio

ROUNDING = 1e-6


def onset(found: Mapping[Cell, Buckets], size: Extent, settings: BootstrapSettings) -> pl.DataFrame:
    """The first length at which a metric is detectably worse than in the first bucket in effect, and stays so.

    A bucket is compared with the first one in effect over the samples that reach it, which are paired; only an
    interval that leaves out 0 there and in every later bucket counts.

    Returns:
        metric, layer (null for all), first_length (end of the first bucket in effect), longest (end of the last),
        length (end of the bucket in which the loss begins; null: not detected), loss (how much worse the last bucket
        is than the first), ci_low, ci_high, n (samples that reach the last bucket).
    """
    rows = [
        _row(metric, layer, found[metric, layer], size, settings)
        for metric in FOLLOWED
        for layer in (None, *sorted(layer for name, layer in found if name == metric and layer is not None))
        if (metric, layer) in found and layer in size.first
    ]
    known = [row for row in rows if row is not None]
    frame = pl.DataFrame(known, schema=ONSET.schema, orient="row")
    return frame.with_columns(finite_or_null("loss", "ci_low", "ci_high"))


def _row(
    metric: str, layer: int | None, own: Buckets, size: Extent, settings: BootstrapSettings
) -> tuple[object, ...] | None:
    first = size.first[layer]
    reached = np.flatnonzero(own.paired > 0)
    if first >= size.buckets or not len(reached) or reached[-1] <= first:
        return None
    sign = -1.0 if REGISTRY[metric].better == "higher" else 1.0
    loss = sign * (ratio(own.top, own.bottom) - ratio(own.first_top, own.first_bottom))
    low, high = interval(loss[0], loss[1:], own.paired, settings.confidence)
    last = int(reached[-1])
    length = None
    # Features are kept in single precision: smaller differences are arithmetic.
    least = ROUNDING * np.abs(ratio(own.top[0], own.bottom[0]))
    for bucket in range(last, first, -1):
        if not low[bucket] > least[bucket]:  # NaN is not above it
            break
        length = size.length(bucket)
    ends = (size.length(first), size.length(last))
    return metric, layer, *ends, length, loss[0, last], low[last], high[last], int(own.paired[last])
