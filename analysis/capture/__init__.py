"""Run a model and see its attention and its indexer, exactly as the model computes them."""

from analysis.capture.chunk import AttentionChunk, Entries, Observer
from analysis.capture.model import CapturedModel, own_attention
from analysis.capture.observers import capture_dense, capture_sparse
from analysis.capture.protocol import TracedModel, as_source
from analysis.capture.source import Source
from analysis.capture.trace import LayerTrace, Trace

__all__ = [
    "AttentionChunk",
    "CapturedModel",
    "Entries",
    "LayerTrace",
    "Observer",
    "Source",
    "Trace",
    "TracedModel",
    "as_source",
    "capture_dense",
    "capture_sparse",
    "own_attention",
]
