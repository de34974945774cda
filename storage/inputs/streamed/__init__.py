"""Checkpoints whose weights are read part by part, and the hidden states that lie on a disk meanwhile."""
