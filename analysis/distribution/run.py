"""All metrics of a model's features by layer, position and head; recall of single queries; and the index scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution.recalls import Recalls
from indexscope.analysis.distribution.scores import Scores, score_histogram, score_moments, score_quantiles
from indexscope.analysis.distribution.tables import BY_BUCKET, BY_HEAD
from indexscope.analysis.distribution.totals import Counts, Totals
from indexscope.analysis.metrics.grids import grids
from indexscope.analysis.metrics.stream import Sharded, shards
from indexscope.analysis.metrics.summary import finite_or_null, summarise
from indexscope.analysis.metrics.sums import Features, Sums, TableSums, join, per_sample, ratio_metrics
from indexscope.analysis.statistics.resampling import Array

TABLES = ("tokens", "indexer", "attention")
#: Raise it when the same features would give other tables.
VERSION = 4


def run(features: Features | Sharded, settings: DistributionSettings) -> dict[str, pl.DataFrame]:
    """Summarise a model's features in one pass over their shards, in the memory of a few.

    What is kept are sums by sample and layer, sums by layer and bucket or head, and merged digests of scores and
    recall. Shards whose samples ascend give the same bits however the samples are cut into shards.

    Args:
        features: Feature tables; tables that are absent or empty give no rows.
        settings: Quantiles, bins and the bootstrap.

    Returns:
        metrics, per_sample, by_bucket, by_head, recall_quantiles, worst_queries, score_quantiles,
        score_histogram and score_moments.
    """
    tables = [_Table(features, name) for name in TABLES]
    scores, recalls = Scores(), Recalls()
    samples = [pl.DataFrame(schema={"sample": pl.Int32})]
    for shard in shards(features, (*TABLES, "scores", "recalls", "samples")):
        for table in tables:
            table.add(shard.get(table.name))
        scores.add(shard.get("scores"))
        recalls.add(shard.get("recalls"))
        if "samples" in shard:
            samples.append(shard["samples"].select("sample"))
    sums = join(
        [*(table.take_sums() for table in tables), recalls.sums()],
        {"samples": pl.concat(samples, how="vertical_relaxed")},
    )
    return {
        "metrics": summarise(sums, settings),
        "per_sample": per_sample(sums),
        "by_bucket": by_bucket([(table.buckets, table.layered) for table in tables]),
        "by_head": by_head(tables[-1].heads),
        "recall_quantiles": recalls.quantiles(),
        "worst_queries": recalls.lowest(),
        "score_quantiles": score_quantiles(scores, settings.quantiles),
        "score_histogram": score_histogram(scores, settings.histogram_bins),
        "score_moments": score_moments(scores),
    }


class _Table:
    """What is kept of one feature table."""

    def __init__(self, features: Features | Sharded, name: str) -> None:
        self.name = name
        self.layered = False
        rules = ratio_metrics(features, name)
        self.sums = TableSums(rules)
        self.buckets, self.heads = Totals(rules), Totals(rules)

    def add(self, frame: pl.DataFrame | None) -> None:
        if frame is None or frame.is_empty() or not self.sums.rules:
            return
        self.layered |= "layer" in frame.columns
        others = ["", "bucket", *(["head"] if "head" in frame.columns else [])]
        for whole, by_bucket_of, *by_head_of in grids(frame, self.sums.rules, others):
            self.sums.add(whole, self.layered)
            self.buckets.add(by_bucket_of)
            for grid in by_head_of:
                self.heads.add(grid)

    def take_sums(self) -> Sums:
        """The sums by sample; their parts are given up, which are as large."""
        sums, self.sums = self.sums.sums(), TableSums({})
        return sums


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
