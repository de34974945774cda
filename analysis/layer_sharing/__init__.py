"""Whether layers could share one selection, and which of them should keep an indexer."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class LayerSharingSettings(BootstrapSettings):
    """Selections shared across layers."""
