"""What single indexer heads focus on, which are alike, and what is lost without them."""

from indexscope.analysis.heads.run import run

VERSION = 1
"""Part of the analysis' key: raise it when any number in its frames would change."""

__all__ = ["VERSION", "run"]
