"""Several context lengths from one extraction: models are causal, so queries t < L are a study of length L."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from indexscope.analysis.length.by_sample import BySample
from indexscope.analysis.length.extent import extent
from indexscope.analysis.length.lengths import lengths
from indexscope.analysis.length.onset import onset
from indexscope.analysis.length.resampled import resampled
from indexscope.analysis.length.tables import RESULTS
from indexscope.analysis.metrics.stream import Sharded
from indexscope.analysis.metrics.summary import metrics_frame
from indexscope.analysis.metrics.sums import Cell
from indexscope.analysis.metrics.tables import PER_SAMPLE
from indexscope.analysis.settings import LengthSettings
from indexscope.columns import empty


def run(features: Mapping[str, pl.DataFrame] | Sharded, settings: LengthSettings) -> dict[str, pl.DataFrame]:
    """Metrics by context length, and from which length on the selection loses.

    A model that does not see the future computes the same for a query whatever follows it, so that the rows of buckets
    0 to m - 1 (queries t < L = 2^m - 1) are what a study with max_length L would have measured. Metrics of predicted
    tokens count predicted tokens: theirs are those of max_length L + 1, of which L tokens are predicted. It does not
    hold for models whose positions depend on the whole length (dynamic scaling of rotary positions); samples that are
    shorter than L come in with what they have.

    Args:
        features: Feature tables, read shard by shard: samples, tokens, indexer and attention.
        settings: The bootstrap.

    Returns:
        lengths, onset, by_sample (see there), metrics (recall_onset_length) and per_sample (always empty: an onset is
        no property of a sample).
    """
    size = extent(features)
    if not size.samples or not size.longest:
        return empty(RESULTS)
    kept = BySample(size)
    found = resampled(features, size, settings, kept)
    losses = onset(found, size, settings)
    return {
        "lengths": lengths(found, size, settings),
        "onset": losses,
        "by_sample": kept.frame(),
        "metrics": _metrics(losses),
        "per_sample": PER_SAMPLE.empty(),
    }


def _metrics(losses: pl.DataFrame) -> pl.DataFrame:
    rows = losses.filter(pl.col("metric") == "recall_of_oracle")
    cells: list[Cell] = [("recall_onset_length", layer) for layer in rows["layer"]]
    values = rows["length"].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
    nothing = np.full(len(cells), np.nan)
    return metrics_frame(cells, values, nothing, nothing, rows["n"].to_numpy().astype(np.int64))
