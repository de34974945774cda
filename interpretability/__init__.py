"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""

from interpretability.visualizer import AttentionVisualizer

__all__ = ["AttentionVisualizer"]
