"""The recipe of the built-in models: tokenizer, pre-training and the lightning indexer's dense warm-up."""
