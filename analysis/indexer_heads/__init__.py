"""What single indexer heads focus on, which are alike, and what is lost without them."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings, Quantiles


class IndexerHeadsSettings(BootstrapSettings):
    """What single indexer heads do."""

    quantiles: Quantiles = Field(
        default=(0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0),
        description="Quantiles of each indexer head's scores to report; 0 and 1 are the exact extremes.",
    )
