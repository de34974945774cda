"""Tests of indexscope.analysis.positional."""
