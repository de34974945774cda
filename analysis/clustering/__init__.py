"""Groups and types of attention patterns."""

from indexscope.analysis.clustering.run import run

VERSION = 4

__all__ = ["VERSION", "run"]
