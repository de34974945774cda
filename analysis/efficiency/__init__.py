"""What indexer and attention cost, by formula and by the clock, and the quality kept for it."""

from indexscope.analysis.efficiency.run import run

VERSION = 3

__all__ = ["VERSION", "run"]
