"""A study over time: what is kept of its reports, the rows of its runs, and when each gate broke."""
