"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""

from interpretability.analyzer import PatternAnalyzer
from interpretability.compare import compare_indexer_analyses
from interpretability.interpreter import IndexerInterpreter
from interpretability.load import load
from interpretability.visualizer import AttentionVisualizer

__all__ = ["AttentionVisualizer", "IndexerInterpreter", "PatternAnalyzer", "compare_indexer_analyses", "load"]
