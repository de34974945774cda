"""How attention maps move between the clusters of the baseline and those of a candidate."""
