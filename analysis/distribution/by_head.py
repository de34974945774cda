"""Attention metrics by head, over all samples."""

from __future__ import annotations

import numpy as np
import polars as pl

from indexscope.analysis.distribution.tables import BY_HEAD
from indexscope.analysis.distribution.totals import Totals
from indexscope.analysis.metrics.summary import finite_or_null


def by_head(totals: Totals) -> pl.DataFrame:
    """Attention metrics of every layer and head: metric, layer, head, value; null where nothing was measured."""
    values, _ = totals.estimates(overall=False)
    rows, columns = np.nonzero(totals.rows)
    frames = [
        pl.DataFrame(
            {
                "metric": [name] * len(rows),
                "layer": totals.layers[rows],
                "head": totals.others[columns],
                "value": value[rows, columns],
            },
            schema_overrides=BY_HEAD.schema,
        )
        for name, value in values.items()
    ]
    return pl.concat([BY_HEAD.empty(), *frames]).with_columns(finite_or_null("value"))
