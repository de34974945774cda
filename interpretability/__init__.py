"""The same analyses in a notebook, on tensors: a thin layer over `analysis`."""
