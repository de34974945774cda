"""Features of attention and indexer, from one pass over each chunk of queries."""

from analysis.features.extract import FEATURES_VERSION, extract_samples
from analysis.features.intake import TokenSequence

__all__ = ["FEATURES_VERSION", "TokenSequence", "extract_samples"]
