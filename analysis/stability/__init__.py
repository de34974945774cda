"""How much of the selection, and of the predictions, hangs on ties and on the precision of index scores."""

from indexscope.analysis.stability.run import run

VERSION = 1

__all__ = ["VERSION", "run"]
