"""What kinds of tokens the indexer selects, beside what chance would select."""

from indexscope.analysis.content.run import run

VERSION = 1
"""Raise it when any number of the analysis would change."""

__all__ = ["VERSION", "run"]
