"""The differences between two finished reports, or within one: which models, which rows, which rules they break."""
