"""How numbers go over the members of a series, such as the checkpoints of a training, and where they change."""
