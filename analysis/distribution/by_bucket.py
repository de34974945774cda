"""Metrics by power-of-two bucket of the query's position: entropy and sparsity grow with n_t, so they must be."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from indexscope.analysis.distribution.tables import BY_BUCKET
from indexscope.analysis.distribution.totals import Counts, Totals
from indexscope.analysis.metrics.summary import finite_or_null
from indexscope.analysis.statistics import Array


def by_bucket(tables: Sequence[tuple[Totals, bool]]) -> pl.DataFrame:
    """Metrics by bucket and layer (null for all layers): metric, layer, bucket, value, n (samples with weight).

    Args:
        tables: Each table's totals by bucket, and whether it has layers.
    """
    frames = [BY_BUCKET.empty()]
    for totals, layered in tables:
        values, counts = totals.estimates(overall=True)
        layers = [None, *(totals.layers.tolist() if layered else [])]
        frames += [_rows(name, layers, totals.others.tolist(), values[name], counts[name]) for name in values]
    return pl.concat(frames)


def _rows(
    metric: str, layers: Sequence[int | None], buckets: Sequence[int], values: Array, counts: Counts
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
    frame = pl.DataFrame(columns, schema_overrides=BY_BUCKET.schema, strict=False)
    return frame.with_columns(finite_or_null("value")).filter(pl.col("n") > 0)
