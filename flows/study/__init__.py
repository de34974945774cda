"""The study file: its settings, how it is read and planned, and the flows that carry it out."""
