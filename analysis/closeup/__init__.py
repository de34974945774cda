"""Looks closely at few queries of some samples, in ways that are too dear everywhere."""
