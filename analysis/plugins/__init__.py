"""Metrics that a study declares in files of its own (docs/plugins.md)."""

from __future__ import annotations

from indexscope.analysis.settings import BootstrapSettings


class PluginSettings(BootstrapSettings):
    """The study's own metrics, if it has any."""
