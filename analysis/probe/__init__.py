"""Looks closely at few queries: indexer heads, other selections, other precisions, what whole datasets need not pay."""

from indexscope.analysis.probe.run import PROBE_VERSION, Vocabulary, probe_samples

__all__ = ["PROBE_VERSION", "Vocabulary", "probe_samples"]
