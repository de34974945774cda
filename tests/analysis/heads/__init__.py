"""Tests of analysis.heads."""
