"""Tests of indexscope.analysis.recommendations."""
