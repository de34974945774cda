"""Run a model and see its attention and its indexer, exactly as the model computes them."""

from analysis.capture.chunk import AttentionChunk, Entries, Observer
from analysis.capture.model import CapturedModel, capture_dense, capture_sparse, own_attention

__all__ = [
    "AttentionChunk",
    "CapturedModel",
    "Entries",
    "Observer",
    "capture_dense",
    "capture_sparse",
    "own_attention",
]
