"""Tests of indexscope.analysis.probe."""
