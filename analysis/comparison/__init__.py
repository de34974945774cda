"""Candidates beside the baseline: paired differences, their intervals and verdicts, and the gates held against them."""
