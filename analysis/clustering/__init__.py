"""Groups and types of attention patterns."""

from analysis.clustering.run import run

VERSION = 3

__all__ = ["VERSION", "run"]
