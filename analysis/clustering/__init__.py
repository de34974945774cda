"""Groups and types of attention patterns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings


class ClusteringSettings(BootstrapSettings):
    """Clusters and types of attention patterns."""

    clusters: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="Number of clusters, or auto: as many as halves of the samples find again."
    )
    max_clusters: int = Field(default=8, ge=2, description="Largest number of clusters that auto tries.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of k-means, the subsample and the bootstrap.")
    max_rows: int = Field(
        default=20_000,
        ge=10,
        description="Rows (sample, layer, head) to fit on; further rows join the nearest cluster.",
    )
