"""Tests of analysis.efficiency."""
