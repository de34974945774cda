"""Fitting lightning indexers: the file that says what to fit, and the flow that does it."""
