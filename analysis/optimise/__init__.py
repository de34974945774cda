"""Which edit of a model's indexers costs least within a bound on the loss: searched by running edits, and validated."""
