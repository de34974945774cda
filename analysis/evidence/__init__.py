"""Does the indexer find what the answer needs: evidence and answers by depth and length, and what was lost by whom."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings


class EvidenceSettings(BootstrapSettings):
    """Evidence that data mark, and the answers that need it."""

    depth_bins: int = Field(default=10, ge=1, le=100, description="Equal parts of the context that depths are told in.")
    missing: float = Field(
        default=0.5,
        gt=0.0,
        le=1.0,
        description="Evidence is missing where less than this share of the attention on it is on selected tokens.",
    )
