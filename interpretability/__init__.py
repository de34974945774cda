"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""

from interpretability.analyzer import PatternAnalyzer
from interpretability.visualizer import AttentionVisualizer

__all__ = ["AttentionVisualizer", "PatternAnalyzer"]
