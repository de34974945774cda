"""Tests of indexscope.analysis.positional_bias."""
