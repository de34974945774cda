"""Whether the indexer prefers some positions over others, corrected for exposure, and more than the attention does."""

from analysis.positional.run import run

VERSION = 3

__all__ = ["VERSION", "run"]
