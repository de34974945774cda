"""What indexer and attention cost, by formula and by the clock, and the quality kept for it."""

from __future__ import annotations

from pydantic import Field

from indexscope.analysis.settings import BootstrapSettings, Lengths


class EfficiencySettings(BootstrapSettings):
    """Costs and their projection."""

    project_lengths: Lengths = Field(
        default=(4096, 16384, 65536, 262144, 1048576), description="Context lengths (tokens) of the projection."
    )
