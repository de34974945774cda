"""Tests of indexscope.analysis.distribution."""
