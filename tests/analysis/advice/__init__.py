"""Tests of analysis.advice."""
