"""Metrics that a study declares in files of its own (docs/plugins.md)."""

from indexscope.analysis.custom.run import run

VERSION = 1
__all__ = ["VERSION", "run"]
