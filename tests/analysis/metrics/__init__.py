"""Tests of analysis.metrics."""
