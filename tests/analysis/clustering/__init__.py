"""Tests of analysis.clustering."""
