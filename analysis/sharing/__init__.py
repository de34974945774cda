"""Whether layers could share one selection, and which of them should keep an indexer."""

from indexscope.analysis.sharing.run import run

VERSION = 1
"""Raise it when any number of the analysis would change."""

__all__ = ["VERSION", "run"]
