"""Tests of indexscope.analysis.metrics."""
