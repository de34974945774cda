"""The metrics of every layer, head and position, and the distributions of the index scores."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings, Quantiles


class DistributionSettings(BootstrapSettings):
    """Metrics and the distributions of index scores."""

    quantiles: Quantiles = Field(
        default=(0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0),
        description="Quantiles of the index scores to report; 0 and 1 are the exact extremes.",
    )
    histogram_bins: int = Field(
        default=60, ge=1, le=10_000, description="Equal bins between a layer's smallest and largest index score."
    )
