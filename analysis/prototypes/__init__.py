"""The attention maps that are most like their cluster's centre."""

from indexscope.analysis.prototypes.run import run

VERSION = 3

__all__ = ["VERSION", "run"]
