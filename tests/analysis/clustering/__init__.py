"""Tests of indexscope.analysis.clustering."""
