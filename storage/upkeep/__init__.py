"""The upkeep of a store: what can go is collected, what another store has is taken in, every byte is verified."""
