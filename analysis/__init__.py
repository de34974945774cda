"""The science: pure functions on tensors, arrays and frames. No Prefect, no files, no network."""
