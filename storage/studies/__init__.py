"""What a store knows of the studies that ran in it: their runs, their reports, their history, and what was found."""
