"""How every kernel of the extraction is compiled."""

from analysis.compiled import exact, kernel

__all__ = ["exact", "kernel"]
