"""What the data says to change, and what each change is expected to lose and to save."""

from indexscope.analysis.advice.run import run

VERSION = 1

__all__ = ["VERSION", "run"]
