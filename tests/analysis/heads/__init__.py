"""Tests of indexscope.analysis.heads."""
