"""Tests of indexscope.analysis.closeup."""
