"""How many keys each layer would need, fixed for all queries or chosen for each, and how its scores drift."""

from indexscope.analysis.budget.run import run

VERSION = 1

__all__ = ["VERSION", "run"]
