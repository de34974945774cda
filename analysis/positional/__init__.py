"""Whether the indexer prefers some positions over others, corrected for exposure."""

from analysis.positional.run import run

__all__ = ["run"]
