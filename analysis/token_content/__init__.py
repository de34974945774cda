"""What kinds of tokens the indexer selects, beside what chance would select."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class TokenContentSettings(BootstrapSettings):
    """What kinds of tokens are selected."""
