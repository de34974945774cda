"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""

from interpretability.compare import compare_indexer_analyses
from interpretability.interpreter import IndexerInterpreter

__all__ = ["IndexerInterpreter", "compare_indexer_analyses"]
