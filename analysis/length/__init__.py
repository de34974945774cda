"""Metrics over context lengths from one extraction, and the length from which the selection loses."""

from indexscope.analysis.length.run import run

VERSION = 2

__all__ = ["VERSION", "run"]
