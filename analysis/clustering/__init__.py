"""Groups and types of attention patterns."""

from analysis.clustering.run import run

__all__ = ["run"]
