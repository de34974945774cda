"""Metrics over context lengths from one extraction, and the length from which the selection loses."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class ContextLengthSettings(BootstrapSettings):
    """The metrics at shorter contexts."""
