"""All metrics of a model's features: overall, by layer, by position bucket and by head; and the index scores."""

from __future__ import annotations

import polars as pl

from analysis.distribution.by_bucket import by_bucket
from analysis.distribution.by_head import by_head
from analysis.distribution.scores import score_histogram, score_moments, score_quantiles
from analysis.metrics.summary import summarise
from analysis.metrics.sums import Features, join, per_sample, table_sums
from analysis.settings import DistributionSettings

TABLES = ("tokens", "indexer", "attention")


def run(features: Features, settings: DistributionSettings) -> dict[str, pl.DataFrame]:
    """Summarise a model's features.

    Args:
        features: Feature tables; tables that are absent or empty give no rows.
        settings: Quantiles, bins and the bootstrap.

    Returns:
        metrics, per_sample, by_bucket, by_head, score_quantiles, score_histogram and score_moments.
    """
    sums = join([table_sums(features, table) for table in TABLES], features)
    return {
        "metrics": summarise(sums, settings),
        "per_sample": per_sample(sums),
        "by_bucket": by_bucket(features, TABLES),
        "by_head": by_head(features),
        "score_quantiles": score_quantiles(features, settings.quantiles),
        "score_histogram": score_histogram(features, settings.histogram_bins),
        "score_moments": score_moments(features),
    }
