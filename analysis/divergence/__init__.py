"""What an indexer does to the next-token distribution, in the terms of llama.cpp's KL-divergence report."""

from indexscope.analysis.divergence.run import diverge, output_metrics
from indexscope.analysis.divergence.tables import BY, DIVERGENCE

__all__ = ["BY", "DIVERGENCE", "diverge", "output_metrics"]
