"""The recipe of the built-in models: tokenizer, pre-training and the fit of lightning indexers."""
