"""Fitting lightning indexers to a frozen model: training, held-out recall, and selectors that use what was fitted."""
