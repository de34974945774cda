"""Run a model and see its attention and its indexer, exactly as the model computes them."""

from indexscope.analysis.capture.chunk import AttentionChunk, Entries, Observer
from indexscope.analysis.capture.model import CapturedModel, own_attention
from indexscope.analysis.capture.observers import capture_dense, capture_sparse
from indexscope.analysis.capture.protocol import TracedModel, as_source
from indexscope.analysis.capture.source import Source
from indexscope.analysis.capture.trace import LayerTrace, Trace

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
