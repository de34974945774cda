"""Run a model and see its attention and its indexer, exactly as the model computes them."""

from analysis.capture.model import AttentionChunk, CapturedModel, capture_dense, capture_sparse, own_attention

__all__ = ["AttentionChunk", "CapturedModel", "capture_dense", "capture_sparse", "own_attention"]
