"""The metrics of every layer, head and position, and the distributions of the index scores."""

from indexscope.analysis.distribution.run import run

__all__ = ["run"]
