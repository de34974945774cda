"""Tests of analysis.distribution."""
