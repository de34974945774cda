"""Features of attention and indexer, from one pass over each chunk of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexscope.analysis.features.extract import FEATURES_VERSION, extract_samples
    from indexscope.analysis.features.intake import TokenSequence

__all__ = ["FEATURES_VERSION", "TokenSequence", "extract_samples"]


def __getattr__(name: str) -> Any:
    """Import what runs a model when it is asked for: the declared columns alone need no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from indexscope.analysis.features import extract

    return getattr(extract, name)
