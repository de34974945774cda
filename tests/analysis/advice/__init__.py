"""Tests of indexscope.analysis.advice."""
