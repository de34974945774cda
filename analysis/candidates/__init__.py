"""The candidates beside the baseline and beside each other: what they gain and what they cost."""
