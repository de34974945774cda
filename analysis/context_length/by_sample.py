"""Headline metrics by sample and position bucket: what two models are paired by at every context length."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexscope.analysis.context_length.extent import Extent
from indexscope.analysis.context_length.tables import BY_SAMPLE
from indexscope.analysis.metrics.headline import HEADLINE
from indexscope.analysis.metrics.metric import Ratio
from indexscope.analysis.metrics.registry import REGISTRY
from indexscope.analysis.statistics.resampling import Array, ratio

#: Headline metrics that are means of rows, and the means that the others of them derive from.
KEPT = frozenset(
    name for metric in HEADLINE for name in (metric, *REGISTRY[metric].bases) if isinstance(REGISTRY[name].rule, Ratio)
)


class BySample:
    """Sums over all layers by metric, sample and bucket, collected block by block.

    Args:
        size: Buckets, and the lengths they end at.
    """

    def __init__(self, size: Extent) -> None:
        self._lengths = np.array([size.length(bucket) for bucket in range(size.buckets)], dtype=np.int32)
        self._parts = [BY_SAMPLE.empty()]

    def add(self, metric: str, samples: NDArray[np.int64], top: Array, bottom: Array) -> None:
        """Take some samples of one metric; metrics that are not kept are passed over.

        Args:
            metric: Its name.
            samples: Sample ids, [samples].
            top: Sums of value x weight, [samples, buckets].
            bottom: Sums of weight, same shape.
        """
        if metric not in KEPT:
            return
        rows, buckets = np.nonzero(bottom > 0)
        weight = bottom[rows, buckets]
        columns = {
            "metric": [metric] * len(rows),
            "bucket": buckets,
            "length": self._lengths[buckets],
            "sample": samples[rows],
            "value": ratio(top[rows, buckets], weight),
            "weight": weight,
        }
        self._parts.append(pl.DataFrame(columns, schema_overrides=BY_SAMPLE.schema, strict=False))

    def frame(self) -> pl.DataFrame:
        """metric, bucket, length (tokens), sample, value, weight, in the registry's order of metrics."""
        order = {name: place for place, name in enumerate(REGISTRY)}
        return pl.concat(self._parts).sort(
            pl.col("metric").replace_strict(order, return_dtype=pl.Int32), "bucket", "sample"
        )
