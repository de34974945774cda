"""How every kernel of the extraction is compiled."""

from indexscope.analysis.compiled import exact, kernel

__all__ = ["exact", "kernel"]
