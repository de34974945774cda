"""Tests of indexscope.analysis.indexer_heads."""
