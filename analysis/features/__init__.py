"""Features of attention and indexer, from one pass over each chunk of queries."""

from analysis.features.extract import FEATURES_VERSION, TokenSequence, extract_samples

__all__ = ["FEATURES_VERSION", "TokenSequence", "extract_samples"]
