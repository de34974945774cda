"""Whether the indexer prefers some positions over others, corrected for exposure, and more than the attention does."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class PositionalBiasSettings(BootstrapSettings):
    """Positional bias of the selection."""
