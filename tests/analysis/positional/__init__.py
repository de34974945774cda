"""Tests of analysis.positional."""
