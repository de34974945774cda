"""Pairing, intervals, verdicts and gates: what every analysis and comparison computes with."""
