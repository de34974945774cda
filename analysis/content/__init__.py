"""What kind of tokens the indexer selects."""
