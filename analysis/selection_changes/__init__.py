"""What changed between the models' choices: overlap of selections, what was dropped and added, and where."""
