"""Tests of analysis.probe."""
