"""Finished studies: told apart, followed over time, exported."""
