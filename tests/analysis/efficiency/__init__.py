"""Tests of indexscope.analysis.efficiency."""
