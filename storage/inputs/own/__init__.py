"""Models that a user's own Python file makes: its code read, fingerprinted, imported as it was read, and run."""
