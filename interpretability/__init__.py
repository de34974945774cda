"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""

from interpretability.compare import compare_indexer_analyses
from interpretability.interpreter import IndexerInterpreter
from interpretability.load import load

__all__ = ["IndexerInterpreter", "compare_indexer_analyses", "load"]
