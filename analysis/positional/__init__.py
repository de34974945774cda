"""Whether the indexer prefers some positions over others, corrected for exposure, and more than the attention does."""

from indexscope.analysis.positional.run import run

VERSION = 3

__all__ = ["VERSION", "run"]
