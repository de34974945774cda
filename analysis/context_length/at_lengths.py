"""Every metric of features at the lengths that a study asks for, as studies of those lengths would have measured it."""

from __future__ import annotations

import polars as pl

from indexscope.analysis.context_length import ContextLengthSettings
from indexscope.analysis.distribution import DistributionSettings
from indexscope.analysis.distribution import run as distribution
from indexscope.analysis.features.at_lengths import Features, at_lengths
from indexscope.analysis.metrics.tables import at_each_length
from indexscope.analysis.positional_bias import PositionalBiasSettings
from indexscope.analysis.positional_bias import run as positional_bias


def measured_at_lengths(features: Features, settings: ContextLengthSettings) -> dict[str, pl.DataFrame]:
    """Metrics with intervals at each length that was asked for, and what they are made of by sample.

    Args:
        features: Feature tables, read shard by shard.
        settings: The bootstrap.

    Returns:
        The tables of `PREFIXED`; without rows where no lengths were asked for.
    """
    how = settings.model_dump()
    return at_each_length(
        (length, found)
        for length, own in at_lengths(features).items()
        for found in (
            distribution.run(own, DistributionSettings(**how)),
            positional_bias.run(own, PositionalBiasSettings(**how)),
        )
    )
